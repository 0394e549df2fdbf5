"""``mmfed-simulate missing`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.client.cohort.conftest import SmallCohort

from mmfed_common.error_codes import CODES
from mmfed_simulations.cli import program


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Sixty patients of two hospitals, clinical data and genes, two folds; a study of two rounds."""
    folder = tmp_path_factory.mktemp("two")
    small = SmallCohort(folder)
    small.clinical["fold"] %= 2
    small.write()
    kept = ("demographics", "clinical", "gene", "survival", "response")
    study = {
        "study": {"name": "two", "seed": 1},
        "contract": {key: small.contract[key] for key in kept},
        "model": {"hidden": 8, "heads": 2, "layers": 1, "kernel": "plain"},
        "training": {"stages": [{"level": "clinical", "rounds": 1}, {"level": "additive", "rounds": 1}]},
        "evaluation": {"rule": "fold", "folds": 2, "bootstrap": 20},
    }
    (folder / "study.json").write_text(json.dumps(study))
    return ["missing", str(folder / "study.json"), "--cohort", str(folder), "--out", str(folder / "out"),
            "--share", "0.5", "--workers", "1"]  # fmt: skip


def test_prints_a_table_a_task_and_the_same_as_json(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run(command) == 0
    text = capsys.readouterr().out
    assert "two: survival, C-index (Harrell)" in text
    assert "two: response, AUROC, macro" in text
    assert "clinical + genes" in text
    assert program.run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((Path(command[5]) / "missing.json").read_text())
    assert [(row["task"], row["shown"]) for row in found["rows"]] == [
        (task, shown)
        for task in ("survival", "response")
        for shown in (["clinical_feature", "gene"], ["clinical_feature"], ["gene"])
    ]
    shown = f"{found['rows'][0]['figure']['estimate']:.3f}".removeprefix("0")
    assert shown in text


@pytest.mark.parametrize("share", ["0", "1"])
def test_a_share_of_nobody_or_everybody_is_refused(
    command: list[str], share: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run([*command, "--share", share]) == 64
    assert "0.01<=x<=0.99" in capsys.readouterr().err


def test_a_study_with_nothing_to_hide_says_so(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = json.loads(Path(command[1]).read_text())
    del study["contract"]["gene"]
    (tmp_path / "clinical.json").write_text(json.dumps(study))
    assert program.run([command[0], str(tmp_path / "clinical.json"), *command[2:]]) == 5
    message = capsys.readouterr().err
    assert message.startswith("MMF-514")
    assert CODES["MMF-514"].next_step in message
