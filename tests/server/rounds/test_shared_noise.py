"""Whole rounds with shared noise: the model has less of it, by what was reckoned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message
from tests.client.privacy.private_sites import CONTRACT, start_of
from tests.client.privacy.shared_sites import EVERYTHING, ONE_STEP, SHARED_DP, shared_study, signal_of
from tests.server.faulty_federation import run
from tests.simulations.small_federation import small_sites

from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite
from mmfed_common import messages as m
from mmfed_common.masking.rules import threshold_of
from mmfed_common.masking.shared_noise import honest_sites
from mmfed_common.privacy import PrivacyPlan
from mmfed_common.schedule import Place, trained_parameters
from mmfed_common.study import Study
from mmfed_server.record.state import RunState

SIZES = (40, 44, 50, 46, 42)
RATE = 0.5


def study_with(noise: str) -> Study:
    return shared_study(
        training={**ONE_STEP, "stages": EVERYTHING}, privacy={**SHARED_DP, "epsilon": 2.0, "noise": noise}
    )


def noise_of(state: RunState, study: Study, sites: list[SiteData]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What the first round did to the sum of gradients, beside the gradients of the sites that are in it."""
    local = [LocalSite(study, data) for data in sites]
    place = Place.of(study.training, 1)
    first, patients = start_of(local[0]), sum(len(site.fit) for site in local)
    names = trained_parameters(first, local[0].model.block_of, place.stage, study.privacy, ())
    moved = torch.cat([(state.weights[name].double() - first[name]).flatten() for name in names]).numpy()
    return np.asarray(moved * patients / -RATE - np.sum([signal_of(site) for site in local], axis=0))


@pytest.mark.parametrize("gone", [(), ("site-4",)])
def test_the_models_noise_is_smaller_by_what_the_sites_share(gone: tuple[str, ...], tmp_path: Path) -> None:
    """Measured on the weights of two runs of the same sites, whoever drops out after the keys."""

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        return None if site in gone and request.metadata.message_type == m.TRAIN else reply

    measured, expected = {}, {}
    for noise in ("site", "shared"):
        study = study_with(noise)
        sites = small_sites(study, SIZES)
        state = run(study, sites, tmp_path / noise, spoil)
        left = [site for site in sites if site.name not in gone]
        found = noise_of(state, study, left)
        honest = honest_sites(study, 5, threshold_of(0.67, 5)) if noise == "shared" else 1
        expected[noise] = PrivacyPlan.of(study, 50).sigma * np.sqrt(len(left) / honest)
        measured[noise] = found.std()
        assert found.std() == pytest.approx(expected[noise], rel=4.5 / np.sqrt(2 * found.size))
        assert all("train_loss" not in entry for entry in state.history)
    assert measured["shared"] < 0.85 * measured["site"]


def test_a_round_below_the_threshold_opens_nothing_and_is_tried_again(tmp_path: Path) -> None:
    study = study_with("shared")
    sites = small_sites(study, SIZES)
    lost = {"site-3", "site-4"}

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        if site in lost and request.metadata.message_type == m.TRAIN:
            lost.discard(site)
            return None
        return reply

    state = run(study, sites, tmp_path / "broken", spoil)
    whole = run(study, sites, tmp_path / "whole")
    assert not lost
    assert all(torch.equal(state.weights[name], whole.weights[name]) for name in whole.weights)


@pytest.mark.parametrize("strategy", ["fedadam"])
def test_a_servers_own_optimiser_takes_the_noisy_mean(strategy: str, tmp_path: Path) -> None:
    study = shared_study(aggregation={"strategy": strategy}, contract=CONTRACT)
    sites = small_sites(study, SIZES)
    one, two = (run(study, sites, tmp_path / folder) for folder in ("one", "two"))
    start = start_of(LocalSite(study, sites[0]))
    assert all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)
    assert any(not torch.equal(one.weights[name], start[name]) for name in one.weights)


def test_weight_decay_pulls_after_the_sum_and_the_noise_stays_what_it_was(tmp_path: Path) -> None:
    """A strong one, on linear layers alone: what is left without it is noise of the size paid for."""
    decay = 50.0
    stages = [{**stage, "weight_decay": decay} for stage in EVERYTHING]
    plain = study_with("shared")
    study = plain.with_changes(training={"stages": stages})
    sites = small_sites(study, SIZES)
    state = run(study, sites, tmp_path / "shrinks")
    local = LocalSite(study, sites[0])
    first, patients = start_of(local), sum(SIZES)
    names = trained_parameters(
        first, local.model.block_of, Place.of(study.training, 1).stage, study.privacy, ()
    )
    pulled = [first[name].double() * (decay if local.model.shrinks(name) else 0.0) for name in names]
    expected = patients * torch.cat([pull.flatten() for pull in pulled]).numpy()
    found = noise_of(state, study, sites)
    sigma = PrivacyPlan.of(study, 50).sigma * np.sqrt(5 / honest_sites(study, 5, threshold_of(0.67, 5)))
    assert found.std() > 3 * sigma
    assert (found - expected).std() == pytest.approx(sigma, rel=4.5 / np.sqrt(2 * found.size))


def test_weight_decay_is_that_of_a_study_without_privacy(tmp_path: Path) -> None:
    """With little noise and nobody clipped, whole runs end where plain ones do."""
    stages = [{**EVERYTHING[0], "rounds": 3, "weight_decay": 0.3}]
    privacy = {**SHARED_DP, "epsilon": 20.0, "clipping": 5.0}
    shared = shared_study(training={**ONE_STEP, "stages": stages}, privacy=privacy)
    plain = shared.with_changes(
        privacy={"mode": "none", "epsilon": None, "delta": None, "noise": "site"},
        aggregation={"secure": False},
    )
    without = plain.with_changes(training={"stages": [{**stages[0], "weight_decay": 0.0}]})
    ends = [
        run(study, small_sites(study, SIZES), tmp_path / str(number)).weights
        for number, study in enumerate((shared, plain, without))
    ]
    vectors = [np.concatenate([end[name].double().numpy().ravel() for name in sorted(end)]) for end in ends]
    assert np.linalg.norm(vectors[0] - vectors[1]) < 0.2 * np.linalg.norm(vectors[1] - vectors[2])
