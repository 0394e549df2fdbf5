"""``mmfed-simulate pretrain``: several cohorts, one federation, a bundle that the next study starts from."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from mmfed_common.bundle import load_bundle
from mmfed_simulations.cli import program
from mmfed_simulations.pretraining import cohort_names, run_folder_of

SMALL = ("--sites", "4", "--patients", "120", "--genes", "40", "--pathways", "4", "--seed", "3")
STAGES = """
[[training.stages]]
level = "full"
objective = "masked_nodes"
rounds = 1

[aggregation]
"""


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cohorts of two sites, one name in both, and a study of one round without outcomes."""
    folder = tmp_path_factory.mktemp("pretrain")
    assert program.run(["cohort", "--out", str(folder / "all"), *SMALL, "--json"]) == 0
    sites = sorted(path.parent for path in (folder / "all").glob("*/cohort.toml"))
    for number, site in enumerate(sites):
        name = site.name if number < 3 else sites[0].name
        shutil.move(site, folder / ("one" if number < 2 else "two") / name)
    text = (folder / "all" / "study.toml").read_text()
    text = re.sub(r"\n\[\[training.stages\]\].*?\n\[aggregation\]\n", STAGES, text, flags=re.DOTALL)
    (folder / "all" / "study.toml").write_text(text)
    return folder


def test_several_cohorts_make_one_bundle(cohorts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, out = cohorts / "all" / "study.toml", cohorts / "all" / "released"
    command = ["pretrain", str(study), "--cohort", str(cohorts / "one"), "--cohort", str(cohorts / "two")]
    assert program.run([*command, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    bundle = load_bundle(out)
    assert bundle.hash in shown
    assert bundle.names is not None
    results = json.loads((run_folder_of(out) / "results.json").read_text())
    names = [site["site"] for site in results["sites"]]
    assert len(names) == 4
    clash = sorted(path.name for path in (cohorts / "two").iterdir())[0]
    assert {f"one-{clash}", f"two-{clash}"} <= set(names)
    assert clash not in names
    assert [row["stage"] for row in results["rounds"]] == ["masked_nodes"]
    # A run that is finished gives the same bundle again, and only --resume goes on with it.
    assert program.run([*command, "--out", str(out)]) == 5
    assert "MMF-503" in capsys.readouterr().err
    assert program.run([*command, "--out", str(out), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == bundle.hash

    line = f'start_from = {{ file = "released", sha256 = "{bundle.hash}" }}'
    text = study.read_text().replace("[model]\n", f"[model]\n{line}\n", 1)
    assert line in text
    next_study = study.with_name("next.toml")
    next_study.write_text(text.replace('objective = "masked_nodes"\n', ""))
    run = ["run", str(next_study), "--cohort", str(cohorts / "two"), "--out", str(cohorts / "next")]
    assert program.run(run) == 0
    assert "Started from" in capsys.readouterr().out
    started = json.loads((cohorts / "next" / "results.json").read_text())["started_from"]
    assert started["bundle"] == bundle.hash
    embedded = [row for row in started["parts"] if row["part"] == "embeddings: gene"]
    assert embedded[0]["taken"] == embedded[0]["numbers"]


def test_transfer_sets_each_way_beside_training_from_scratch(
    cohorts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (cohorts / "all" / "study.toml").read_text().replace('objective = "masked_nodes"\n', "")
    text = re.sub(
        r"\n\[evaluation\]\n.*", "\n[evaluation]\nfolds = 2\nbootstrap = 20\n", text, flags=re.DOTALL
    )
    study = cohorts / "all" / "scratch.toml"
    study.write_text(text)
    command = ["transfer", str(study), "--bundle", str(cohorts / "all" / "released"), "--workers", "1"]
    command += ["--cohort", str(cohorts / "one"), "--out", str(cohorts / "transfer"), "--folds", "random"]
    command += ["--fraction", "1", "--share", "1", "--frozen", "embeddings"]
    assert program.run(command) == 0
    shown = capsys.readouterr().out
    assert "fine-tuned, 100% of the" in shown
    found = json.loads((cohorts / "transfer" / "transfer.json").read_text())
    ways = [gain["way"] for gain in found["gains"] if gain["task"] == "survival"]
    rounds = "100% of the rounds"
    assert ways == ["scratch", f"fine-tuned, {rounds}", f"embeddings frozen, {rounds}"]
    assert "hash of the patient id" in (cohorts / "transfer" / "transfer.txt").read_text()


def test_a_patient_in_two_cohorts_is_refused(cohorts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, one = str(cohorts / "all" / "study.toml"), str(cohorts / "one")
    out = str(cohorts / "twice")
    assert program.run(["pretrain", study, "--cohort", one, "--cohort", one, "--out", out]) == 5
    assert "MMF-506" in capsys.readouterr().err


def test_data_is_given_for_each_cohort_or_for_none(cohorts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, one = str(cohorts / "all" / "study.toml"), str(cohorts / "one")
    command = ["pretrain", study, "--cohort", one, "--cohort", one, "--data", one, "--out", "x"]
    assert program.run(command) == 64
    assert "once for each" in capsys.readouterr().err


def test_cohorts_of_the_same_name_are_numbered() -> None:
    assert cohort_names([Path("/a/x"), Path("/b/x"), Path("/c/y")]) == ["x-1", "x-2", "y"]
