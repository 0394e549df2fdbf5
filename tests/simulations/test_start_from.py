"""A federation that starts from a released model: one path, whatever carries it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.simulations.small_federation import gene_study, small_sites

from mmfed_common.bundle import Bundle, load_bundle
from mmfed_common.errors import MmfedError
from mmfed_common.study import Study
from mmfed_server.plan import RoundReport
from mmfed_simulations.evaluation.run_results import finish_run
from mmfed_simulations.evaluation.table import start_table
from mmfed_simulations.run import run_study

WITHOUT_OUTCOMES = [
    {"level": "full", "rounds": 2, "objective": "masked_nodes", "learning_rate": 0.01},
    {"level": "full", "rounds": 2, "objective": "contrastive", "learning_rate": 0.01},
]


def pretraining_study(**training: Any) -> Study:
    given = {"stages": WITHOUT_OUTCOMES, "batch": 8, "local_epochs": 1, **training}
    return gene_study(training=given, study={"name": "before", "seed": 7})


def fine_tuning(bundle: Bundle, *frozen: str) -> Study:
    start = {"file": "released", "sha256": bundle.hash}
    return gene_study().with_changes(model={"start_from": start, "frozen": list(frozen)})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle of a federation that never looked at an outcome."""
    folder = tmp_path_factory.mktemp("files")
    study = pretraining_study()
    sites = small_sites(study)
    result = run_study(study, sites, folder / "run")
    assert [row["stage"] for row in result.rounds] == ["masked_nodes"] * 2 + ["contrastive"] * 2
    finish_run(study, sites, result, folder / "run")
    shutil.move(folder / "run" / "model", folder / "released")
    return folder


def test_training_without_outcomes_moves_the_full_block_alone_but_its_gates(files: Path) -> None:
    study = pretraining_study()
    released = load_bundle(files / "released")
    drawn = run_study(
        study.with_changes(training={"stages": [{"level": "clinical", "rounds": 1}]}),
        small_sites(study),
        files / "drawn",
    ).state
    for name, begun in drawn.items():
        same = torch.equal(begun, released.state[name])
        if name.startswith(("additive.", "full.gates.")):
            assert same, name
        elif name.startswith("full.embeddings."):
            assert not same, name


def test_what_is_frozen_stays_and_the_rest_trains(files: Path, tmp_path: Path) -> None:
    bundle = load_bundle(files / "released")
    study = fine_tuning(bundle, "embeddings", "attention")
    result = run_study(study, small_sites(study), tmp_path / "run", files=files)
    for name, weight in result.state.items():
        if name.startswith(("full.embeddings.", "full.layers.")):
            assert torch.equal(weight, bundle.state[name]), name
        elif name.startswith(("full.gates.", "full.fusion.cross.")):
            assert not torch.equal(weight, bundle.state[name]), name
    assert not any("decoders" in name or "contrast" in name for name in result.state)
    results = finish_run(study, small_sites(study), result, tmp_path / "run")
    parts = {row["part"]: row for row in results["started_from"]["parts"]}
    assert parts["embeddings: gene"]["taken"] == parts["embeddings: gene"]["numbers"]
    assert parts["embeddings: gene"]["frozen"]
    table = start_table(json.loads((tmp_path / "run" / "results.json").read_text())["started_from"])
    assert "6 of 6 gene" in str(table.title)


def test_worker_processes_and_a_resumed_run_give_the_same_weights(files: Path, tmp_path: Path) -> None:
    study = fine_tuning(load_bundle(files / "released"))
    sites = small_sites(study)
    whole = run_study(study, sites, tmp_path / "whole", files=files)
    apart = run_study(study, sites, tmp_path / "apart", files=files, workers=2)

    def stop(report: RoundReport) -> None:
        if report.round == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, sites, tmp_path / "stopped", files=files, progress=stop)
    # The run's folder holds the bundle: it goes on where the original is gone.
    resumed = run_study(study, sites, tmp_path / "stopped", resume=True)
    for name in whole.state:
        assert torch.equal(whole.state[name], apart.state[name])
        assert torch.equal(whole.state[name], resumed.state[name])
    assert whole.started_from is not None
    assert resumed.started_from is not None
    assert whole.started_from["parts"] == resumed.started_from["parts"]


def test_pretraining_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    study = pretraining_study(validation_fraction=0.2, patience=3)
    sites = small_sites(study)
    whole = run_study(study, sites, tmp_path / "whole")
    assert all("validation_loss" in row for row in whole.rounds)

    def stop(report: RoundReport) -> None:
        if report.round == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, sites, tmp_path / "stopped", progress=stop)
    resumed = run_study(study, sites, tmp_path / "stopped", resume=True, workers=2)
    assert all(torch.equal(whole.state[name], resumed.state[name]) for name in whole.state)


@pytest.mark.parametrize("fault", ["missing", "another"])
def test_a_bundle_that_is_missing_or_another_one_stops_the_run_before_it_begins(
    fault: str, files: Path, tmp_path: Path
) -> None:
    study = fine_tuning(load_bundle(files / "released"))
    if fault == "another":
        study = study.with_changes(model={"start_from": {"file": "released", "sha256": "0" * 64}})
    with pytest.raises(MmfedError) as caught:
        run_study(
            study, small_sites(study), tmp_path / "run", files=files if fault == "another" else tmp_path
        )
    assert caught.value.code == "MMF-630"
