"""Noise that sites share is refused where the sum would not be the Gaussian mechanism that is accounted."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.client.privacy.shared_sites import SHARED_DP, shared_study
from tests.simulations.small_federation import small_study

from mmfed_common.errors import PrivacyError
from mmfed_common.masking.rules import threshold_of
from mmfed_common.masking.shared_noise import (
    LARGEST_EXTRA,
    MOST_PARAMETERS,
    extra_delta,
    honest_sites,
    rounds_paid,
)
from mmfed_common.privacy import PrivacyPlan, holds_against, told_epsilon, told_privacy
from mmfed_common.study_words import study_in_words

STAGE = {"level": "clinical", "rounds": 3, "learning_rate": 0.5}


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"privacy": {"mode": "none", "epsilon": None, "delta": None}}, 'mode = "dp"'),
        ({"aggregation": {"secure": False}}, "secure = true"),
        ({"training": {"batch": 32}}, "batch = 0"),
        ({"training": {"local_epochs": 2}}, "local_epochs = 1"),
        ({"training": {"optimiser": "adamw"}}, 'optimiser = "sgd"'),
        ({"training": {"gradient_clip": 5.0}}, "gradient_clip = 0"),
        ({"training": {"stages": [STAGE, {**STAGE, "sparsity": 0.01}]}}, "sparsity = 0"),
        ({"aggregation": {"strategy": "fedprox", "proximal_mu": 0.1}}, "fedavg"),
        ({"privacy": {"colluding_sites": 2}}, "colluding_sites"),  # 3 of 3 sites, one honest is too few
        ({"aggregation": {"secure_threshold": 0.6}}, "secure_threshold"),  # 2 of 3: one could agree twice
    ],
)
def test_each_condition_is_refused_and_says_what_to_set(sections: dict[str, Any], named: str) -> None:
    with pytest.raises(PrivacyError) as caught:
        shared_study(**sections)
    assert caught.value.code == "MMF-382"
    assert named in caught.value.what


@pytest.mark.parametrize(
    ("sections", "code"),
    [
        ({"aggregation": {"compression": "int8"}}, "MMF-381"),
        ({"contract": {"normalisation": "site"}}, "MMF-305"),
        ({"contract": {"normalisation": "federated"}}, "MMF-305"),
        ({"training": {"patience": 3, "validation_fraction": 0.2}}, "MMF-360"),
    ],
)
def test_what_no_private_or_masked_study_may_ask_for_stays_refused(
    sections: dict[str, Any], code: str
) -> None:
    with pytest.raises(PrivacyError) as caught:
        shared_study(**sections)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"aggregation": {"strategy": "fedadam"}},
        {"training": {"schedule": "cosine"}},
        {"training": {"stages": [{**STAGE, "weight_decay": 0.01}]}},
        {"contract": {"normalisation": "federated"}, "privacy": {"scaling_epsilon": 1.0}},
        {"privacy": {"colluding_sites": 0}},
        {"aggregation": {"minimum_sites": 10}, "privacy": {"colluding_sites": 3}},
    ],
)
def test_what_keeps_the_sum_a_sum_is_allowed(sections: dict[str, Any]) -> None:
    assert shared_study(**sections).privacy.noise == "shared"


def test_no_gradient_clip_is_written_as_0() -> None:
    assert small_study(training={"gradient_clip": 0}).training.gradient_clip is None
    assert small_study().training.gradient_clip == 5.0


@pytest.mark.parametrize("peers", range(3, 40))
@pytest.mark.parametrize("helping", [0, 1, 2, 5])
def test_honest_sites_of_every_quorum_agree_and_make_the_noise(peers: int, helping: int) -> None:
    """The definition, counted: any sum has so many honest sites, any two of its quorums an honest one."""
    study = shared_study(aggregation={"minimum_sites": 20}, privacy={"colluding_sites": helping})
    threshold = threshold_of(0.67, peers)
    in_common = 2 * threshold - peers  # of the two sets of sites with the fewest in common
    if in_common > helping:
        assert honest_sites(study, peers, threshold) == max(threshold, 20) - helping >= 2
    else:
        with pytest.raises(PrivacyError, match="MMF-397"):
            honest_sites(study, peers, threshold)


def test_the_plan_pays_for_rounds_that_are_tried_again_and_refuses_no_small_site() -> None:
    study = shared_study()
    plan = PrivacyPlan.of(study, 30)
    assert (plan.rate, plan.steps_of_round, plan.total) == (1.0, 1, 4)
    assert plan.cost() <= 8.0
    assert [rounds_paid(rounds) for rounds in (1, 20, 21, 100)] == [2, 21, 23, 105]
    strict = study.with_changes(privacy={"epsilon": 0.1})
    with pytest.raises(PrivacyError, match="MMF-371"):
        PrivacyPlan.of(strict.with_changes(privacy={"noise": "site"}), 6)
    assert PrivacyPlan.of(strict, 6).sigma > 6


def test_what_an_ideal_noise_would_not_do_is_reckoned() -> None:
    """The union over pairs of deviates that an ideal generator would draw beyond 9.4 deviations."""
    assert extra_delta(0.0, 1, 2, 1) == 2 * 2.0**-64
    assert extra_delta(3.0, 105, 50_000, 20) == pytest.approx(105 * 25_000 * 20 * (1 + math.e**3) / 2**64)
    assert extra_delta(8.0, 105, 50_000, 20) < LARGEST_EXTRA * 1e-5
    assert extra_delta(40.0, 105, MOST_PARAMETERS, 20) > 1.0


def test_everybody_is_told_which_guarantee_it_is() -> None:
    shared = shared_study()
    alone = shared.with_changes(privacy={"noise": "site"})
    words = {topic.title: " ".join(topic.sentences) for topic in study_in_words(shared)}
    assert "holds for sums only" in words["Privacy"]
    assert "no more than 1 of a round's sites" in words["Privacy"]
    assert "71%" in holds_against(shared)  # 1/√2: of two honest sites
    assert "everybody outside the site" in holds_against(alone)
    told = told_privacy(shared, [{"site": "a", "epsilon": told_epsilon(shared, 60, 1)}])
    assert told is not None
    assert told["noise"] == "shared"
    assert told["epsilon"] == SHARED_DP["epsilon"]  # a round that was tried again is not seen from the study
    assert told["mechanism"] != told_privacy(alone, [])["mechanism"]  # type: ignore[index]
