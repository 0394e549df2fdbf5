"""``mmfed-simulate attack`` from the outside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mmfed_common.bundle import load_bundle
from mmfed_simulations.cli import program

SMALL = ("--sites", "3", "--patients", "90", "--genes", "40", "--pathways", "6", "--seed", "3")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small consortium, and a model that a short run over it released."""
    folder = tmp_path_factory.mktemp("attack")
    cohort = folder / "cohort"
    assert program.run(["cohort", "--out", str(cohort), *SMALL, "--json"]) == 0
    study = cohort / "study.toml"
    text = study.read_text().replace("fraction = 0.2", "fraction = 0.5").replace('preset = "small"', "")
    head, _, tail = text.partition("[[training.stages]]")
    stages = '[[training.stages]]\nlevel = "clinical"\nrounds = 2\nlearning_rate = 2.0\n\n'
    study.write_text(head + stages + tail[tail.index("[aggregation]") :])
    run = ["run", str(study), "--cohort", str(cohort), "--out", str(folder / "run")]
    assert program.run([*run, "--json"]) == 0
    return cohort, folder / "run" / "model"


def own_bundle(released: tuple[Path, Path], to: Path) -> tuple[Path, Path]:
    """A copy whose card may be written on."""
    cohort, model = released
    shutil.copytree(model, to / "model")
    return cohort, to / "model"


def test_reconstruct_and_attribute_write_what_they_promise(
    released: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, model = own_bundle(released, tmp_path)
    common = ["--bundle", str(model), "--cohort", str(cohort), "--out", str(tmp_path / "out")]
    tries = ["--trials", "2", "--iterations", "3", "--patients", "1"]
    capsys.readouterr()
    assert program.run(["attack", "reconstruct", *common, *tries, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    (row,) = content["rows"]
    assert (row["defence"], row["patients"]) == ("none", 1)
    assert row["clinical_likeness"]["estimate"] > 0.98
    assert content["bundle"] == load_bundle(model).hash
    assert program.run(["attack", "attribute", *common, "--column", "sex"]) == 0
    printed = capsys.readouterr().out
    assert "members above strangers" in printed.replace("\n", " ") or "strangers" in printed
    assert str(tmp_path / "out" / "attack.html") in printed
    record = json.loads((tmp_path / "out" / "attack.json").read_text())
    assert list(record["attacks"]) == ["reconstruct", "attribute"]


@pytest.mark.slow
def test_membership_notes_its_figure_on_the_card(
    released: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, model = own_bundle(released, tmp_path)
    arguments = ["attack", "membership", "--bundle", str(model), "--cohort", str(cohort), "--shadows", "8"]
    capsys.readouterr()
    assert program.run([*arguments, "--note", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["attacked"] for row in rows] == ["model", "training"]
    figure = rows[0]["likelihood_ratio"]["auc"]
    assert 0.0 <= figure["low"] <= figure["estimate"] <= figure["high"] <= 1.0
    card = (model / "model_card.md").read_text()
    assert f"AUC {figure['estimate']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]" in card
    assert load_bundle(model).index["files"]["model_card.md"]


@pytest.mark.parametrize(
    ("attack", "options", "code"),
    [
        ("membership", ("--defence", "dp"), "MMF-620"),
        ("membership", ("--defence", "secure"), "MMF-621"),
        ("attribute", ("--defence", "secure"), "MMF-621"),
        ("reconstruct", ("--defence", "released"), "MMF-621"),
        ("membership", ("--shadows", "7"), "MMF-623"),
        ("reconstruct", ("--patients", "400"), "MMF-622"),
        ("attribute", ("--column", "age"), "MMF-624"),
    ],
)
def test_what_cannot_be_done_is_said(
    released: tuple[Path, Path],
    attack: str,
    options: tuple[str, ...],
    code: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cohort, model = released
    assert program.run(["attack", attack, "--bundle", str(model), "--cohort", str(cohort), *options]) == 6
    assert code in capsys.readouterr().err


def test_a_damaged_bundle_is_not_attacked(
    released: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, model = own_bundle(released, tmp_path)
    (model / "weights.safetensors").write_bytes(b"")
    assert program.run(["attack", "attribute", "--bundle", str(model), "--cohort", str(cohort)]) == 6
    assert "MMF-606" in capsys.readouterr().err
