"""A stage that ends with the mean of its last rounds' weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.server.faulty_federation import run
from tests.simulations.small_federation import CLINICAL_STAGE, gene_study, small_sites, small_study
from torch import Tensor

from mmfed_common.errors import StudyError
from mmfed_common.study import Stage, Study
from mmfed_server.plan import RoundReport
from mmfed_simulations.run import run_study


def of_rounds(rounds: int, **stage: Any) -> Study:
    stages = [{**CLINICAL_STAGE, "rounds": rounds, **stage}]
    return small_study(training={"stages": stages}, aggregation={"strategy": "fedadam"})


def weights_of(study: Study, out: Path) -> dict[str, Tensor]:
    return run(study, small_sites(study), out).weights


def test_a_stage_ends_with_the_mean_of_its_last_rounds(tmp_path: Path) -> None:
    single = [weights_of(of_rounds(rounds), tmp_path / str(rounds)) for rounds in (3, 4, 5)]
    found = weights_of(of_rounds(5, tail_averaging=0.6), tmp_path / "mean")
    moved = 0
    for name, weight in found.items():
        parts = torch.stack([each[name].double() for each in single])
        torch.testing.assert_close(weight, parts.mean(dim=0).to(weight.dtype), rtol=1e-6, atol=1e-7)
        moved += not torch.equal(weight, single[-1][name])
    assert moved > 0


def test_the_last_round_alone_changes_nothing(tmp_path: Path) -> None:
    plain = weights_of(of_rounds(4), tmp_path / "plain")
    last = weights_of(of_rounds(4, tail_averaging=0.25), tmp_path / "last")
    assert all(torch.equal(plain[name], last[name]) for name in plain)


def test_a_stage_leaves_the_others_weights_alone(tmp_path: Path) -> None:
    stages = [
        {"level": "clinical", "rounds": 2, "learning_rate": 0.05},
        {"level": "additive", "rounds": 3, "learning_rate": 0.01, "tail_averaging": 1.0},
    ]
    study = gene_study(training={"stages": stages, "batch": 8, "local_epochs": 1})
    plain = study.with_changes(training={"stages": [stages[0], {**stages[1], "tail_averaging": 0.0}]})
    mean, single = (weights_of(one, tmp_path / name) for one, name in ((study, "mean"), (plain, "single")))
    differing = {name for name in mean if not torch.equal(mean[name], single[name])}
    assert differing
    assert all(name.startswith("additive.") for name in differing)


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_run_that_failed_goes_on_to_the_same_mean(stop: int, tmp_path: Path) -> None:
    study = of_rounds(5, tail_averaging=0.6)
    sites = small_sites(study)

    def progress(report: RoundReport) -> None:
        if report.round == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, sites, tmp_path / "a", progress=progress)
    resumed = run_study(study, sites, tmp_path / "a", resume=True)
    whole = run_study(study, sites, tmp_path / "b")
    assert all(torch.equal(resumed.state[name], whole.state[name]) for name in whole.state)


@pytest.mark.parametrize(
    ("rounds", "share", "first"),
    [(10, 0.0, 11), (10, 0.5, 6), (10, 1.0, 1), (3, 0.5, 2), (10, 0.7, 4), (1, 0.01, 1)],
)
def test_which_rounds_count(rounds: int, share: float, first: int) -> None:
    assert Stage(level="clinical", rounds=rounds, tail_averaging=share).averages_from == first


def test_a_study_without_it_has_the_hash_that_it_had_before() -> None:
    plain = of_rounds(4)
    assert b"tail_averaging" not in plain.canonical()
    assert of_rounds(4, tail_averaging=0.0).hash == plain.hash
    assert of_rounds(4, tail_averaging=0.5).hash != plain.hash
    assert Study.from_content(of_rounds(4, tail_averaging=0.5).model_dump(mode="json")) == of_rounds(
        4, tail_averaging=0.5
    )


def test_it_does_not_go_together_with_early_stopping() -> None:
    stages = [{**CLINICAL_STAGE, "tail_averaging": 0.5}]
    with pytest.raises(StudyError, match="which weights a stage ends") as caught:
        small_study(training={"stages": stages, "patience": 2, "validation_fraction": 0.2})
    assert caught.value.code == "MMF-501"
