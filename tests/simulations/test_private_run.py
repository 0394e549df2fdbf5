"""Whole private runs on one machine: the same bits again, no loss told, resumed as if undisturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.client.privacy.private_sites import CONTRACT, private_study
from tests.client.privacy.shared_sites import shared_study
from tests.simulations.small_federation import CLINICAL_STAGE, small_sites

from mmfed_client.site import SiteData
from mmfed_common.errors import MmfedError
from mmfed_common.study import Study
from mmfed_server.plan import RoundReport
from mmfed_simulations.evaluation.run_results import finish_run
from mmfed_simulations.run import RunResult, run_study

SIZES = (60, 70, 80)
STAGES = [
    {**CLINICAL_STAGE, "rounds": 2},
    {"level": "full", "rounds": 2, "trains": ["clinical", "additive", "full"]},
]


def study_with(**contract: Any) -> Study:
    paid = {"scaling_epsilon": 2.0} if contract.get("normalisation") == "federated" else {}
    return private_study(
        training={"stages": STAGES, "batch": 16, "local_epochs": 1},
        contract={**CONTRACT, **contract},
        privacy={"trainable": "heads", **paid},
    )


def equal(first: RunResult, second: RunResult) -> bool:
    return all(torch.equal(first.state[name], second.state[name]) for name in first.state)


def interrupted_and_resumed(study: Study, sites: list[SiteData], out: Path) -> RunResult:
    """A run that was broken off after its second round, then gone on with."""

    def stop(report: RoundReport) -> None:
        if report.round == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, sites, out, progress=stop)
    return run_study(study, sites, out, resume=True)


def test_a_private_run_repeats_bit_for_bit_and_tells_no_loss(tmp_path: Path) -> None:
    study = study_with()
    sites = small_sites(study, SIZES)
    first = run_study(study, sites, tmp_path / "first")
    second = run_study(study, sites, tmp_path / "second", workers=2)
    assert equal(first, second)
    assert [entry["round"] for entry in first.rounds] == [1, 2, 3, 4]
    assert not any("loss" in key for entry in first.rounds for key in entry)
    reseeded = study.with_changes(study={"seed": 8})
    other = run_study(reseeded, small_sites(reseeded, SIZES), tmp_path / "third")
    assert not equal(first, other)


def test_an_interrupted_private_run_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    study = study_with()
    sites = small_sites(study, SIZES)
    whole = run_study(study, sites, tmp_path / "whole")
    assert equal(whole, interrupted_and_resumed(study, sites, tmp_path / "broken"))


@pytest.mark.parametrize("normalisation", ["reference", "federated"])
def test_a_run_with_shared_noise_repeats_and_goes_on_bit_for_bit(normalisation: str, tmp_path: Path) -> None:
    """With dropout, and with a scaling that each site pays for by itself."""
    paid = {"scaling_epsilon": 2.0} if normalisation == "federated" else {}
    study = shared_study(
        evaluation={"rule": "hash"},
        contract={"normalisation": normalisation},
        model={"dropout": 0.1, "modality_dropout": 0.3},
        privacy=paid,
        training={"schedule": "cosine"},
    )
    sites = small_sites(study, SIZES)
    whole = run_study(study, sites, tmp_path / "whole")
    assert equal(whole, run_study(study, sites, tmp_path / "again", workers=2))
    assert not any("loss" in key for entry in whole.rounds for key in entry)
    assert equal(whole, interrupted_and_resumed(study, sites, tmp_path / "broken"))
    results = finish_run(study, sites, whole, tmp_path / "whole")
    assert results["privacy"]["noise"] == "shared"
    assert "holds for sums only" in results["privacy"]["holds"]
    card = tmp_path / "whole" / "model" / "model_card.md"
    assert "holds for sums only" in card.read_text(encoding="utf-8")


def test_a_scaling_that_is_paid_for_is_noisy_and_the_same_again(tmp_path: Path) -> None:
    study = study_with(normalisation="federated")
    sites = small_sites(study, SIZES)
    first = run_study(study, sites, tmp_path / "first")
    second = run_study(study, sites, tmp_path / "second")
    open_study = study.with_changes(
        privacy={"mode": "none", "epsilon": None, "delta": None, "scaling_epsilon": None}
    )
    exact = run_study(open_study, sites, tmp_path / "open")
    assert first.scaling is not None
    assert second.scaling is not None
    assert exact.scaling is not None
    noisy, again, true = (run.scaling.to_arrays() for run in (first, second, exact))  # type: ignore[union-attr]
    assert all(torch.equal(noisy[name], again[name]) for name in noisy)
    assert any(not torch.allclose(noisy[name], true[name]) for name in noisy)
    assert float((noisy["mean.clinical_feature"] - true["mean.clinical_feature"]).abs().max()) < 1.0
    assert equal(first, second)


def test_a_site_that_is_too_small_is_told_so_and_nothing_is_trained(tmp_path: Path) -> None:
    study = study_with().with_changes(privacy={"delta": 0.03})
    with pytest.raises(MmfedError) as caught:
        run_study(study, small_sites(study, SIZES), tmp_path / "out")
    assert "MMF-306" in str(caught.value)
