"""Membership inference finds what a model learned by heart, and nothing under differential privacy."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmfed_common.bundle import Bundle
from mmfed_common.errors import ModelError
from mmfed_simulations.attacks.defences import parse_defences
from mmfed_simulations.attacks.membership import attack_membership
from mmfed_simulations.attacks.shadows import Patients


@pytest.mark.slow
def test_the_attack_works_where_there_is_no_defence_and_next_to_not_under_dp(
    everybody: Patients, bundle: Bundle, tmp_path: Path
) -> None:
    """An attack that finds nobody without a defence would prove nothing about the defence.

    Sites of 25 patients; docs/results/attacks.md has larger ones, and other ε.
    """
    defences = parse_defences(["released", "dp1"])
    rows = attack_membership(bundle, everybody, defences, tmp_path, shadows=8)
    released, trained, private, private_trained = rows
    assert released.likelihood_ratio.auc.estimate >= 0.7
    assert trained.likelihood_ratio.auc.low >= 0.7
    assert trained.likelihood_ratio.tpr.estimate > 0.03
    assert trained.loss_others > trained.loss_members + 0.3
    assert trained.likelihood_ratio.auc.estimate > trained.loss_threshold.auc.estimate
    assert private_trained.likelihood_ratio.auc.estimate < 0.6
    assert private_trained.loss_threshold.auc.estimate < 0.6
    assert private_trained.likelihood_ratio.members == 8 * 75
    assert (private.target, private_trained.target) == ("model", "training")


@pytest.mark.parametrize("shadows", [0, 6, 9])
def test_too_few_shadow_models_are_refused(
    everybody: Patients, bundle: Bundle, tmp_path: Path, shadows: int
) -> None:
    with pytest.raises(ModelError) as caught:
        attack_membership(bundle, everybody, parse_defences(None), tmp_path, shadows=shadows)
    assert caught.value.code == "MMF-623"


def test_a_cohort_without_strangers_is_refused(everybody: Patients, bundle: Bundle, tmp_path: Path) -> None:
    study = bundle.study.with_changes(evaluation={"rule": "none"})
    members_only = Bundle(study, bundle.state, bundle.scaling, bundle.metrics, bundle.index)
    with pytest.raises(ModelError) as caught:
        attack_membership(members_only, everybody, parse_defences(None), tmp_path, shadows=8)
    assert caught.value.code == "MMF-622"
