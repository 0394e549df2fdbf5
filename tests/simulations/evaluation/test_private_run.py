"""A private run in a simulation: the same bits again, within its ε, and its results say so."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tests.client.privacy.private_sites import private_study
from tests.simulations.small_federation import small_sites

from mmfed_common.bundle import load_bundle
from mmfed_common.privacy import PrivacyPlan
from mmfed_simulations.evaluation.run_results import finish_run
from mmfed_simulations.run import run_study

SIZES = (60, 70)


def test_a_private_run_says_what_it_cost(tmp_path: Path) -> None:
    study = private_study()
    sites = small_sites(study, SIZES)
    result = run_study(study, sites, tmp_path / "one")
    results = finish_run(study, sites, result, tmp_path / "one")
    again = run_study(study, small_sites(study, SIZES), tmp_path / "two")
    assert all(torch.equal(result.state[name], again.state[name]) for name in result.state)
    told = json.loads((tmp_path / "one" / "results.json").read_text())
    for data, site in zip(sites, told["sites"], strict=True):
        plan = PrivacyPlan.of(study, int((~data.held_out).sum()))
        assert abs(site["epsilon"] - plan.cost()) < 1e-4
        assert site["epsilon"] <= 8.0
    assert told["privacy"] == results["privacy"]
    assert told["privacy"]["epsilon"] == max(site["epsilon"] for site in told["sites"])
    assert (told["privacy"]["delta"], told["privacy"]["unit"]) == (1e-3, "one patient")
    index = load_bundle(tmp_path / "one" / "model").index
    assert index["privacy"] == told["privacy"]
    assert "Trained with differential privacy" in (tmp_path / "one" / "model" / "model_card.md").read_text()
