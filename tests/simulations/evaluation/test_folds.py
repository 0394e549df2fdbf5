"""Folds: where they come from, and that they part the patients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.simulations.evaluation.toy_cohort import STUDY, toy_cohort

from mmfed_common.errors import StudyError
from mmfed_common.heldout import hash_folds
from mmfed_simulations.evaluation.folds import plan_folds, training_follow_up

COHORT = toy_cohort()


@pytest.mark.parametrize("rule", ["cohort", "random"])
def test_every_patient_is_held_out_once(rule: str) -> None:
    plan = plan_folds(STUDY, COHORT, rule)  # type: ignore[arg-type]
    marks = np.stack([plan.held_out(fold) for fold in plan.folds])
    assert (marks.sum(axis=0) == 1).all()
    assert len({fold.study.hash for fold in plan.folds}) == len(plan.folds)


def test_the_cohorts_folds_are_used_or_not() -> None:
    assert COHORT.folds is not None
    own = plan_folds(STUDY, COHORT, "cohort")
    np.testing.assert_array_equal(own.held_out(own.folds[1]), np.array(COHORT.folds) == 1)
    random = plan_folds(STUDY.with_changes(evaluation={"folds": 3}), COHORT, "random")
    assert len(random.folds) == 3
    assert random.cohort.folds == hash_folds(STUDY.study.seed, COHORT.patients.patient_ids, 3)
    assert random.cohort.folds != COHORT.folds


def test_a_site_is_left_out_whole() -> None:
    plan = plan_folds(STUDY, COHORT, "leave-site-out")
    assert [fold.name for fold in plan.folds] == [f"hospital-{k}" for k in range(4)]
    for fold in plan.folds:
        np.testing.assert_array_equal(plan.held_out(fold), np.array(COHORT.sites) == fold.name)
    assert "clinic" in plan.notes[0]


def test_the_released_model_holds_nobody_out() -> None:
    plan = plan_folds(STUDY, COHORT, "cohort")
    assert not plan.held_out(plan.everybody).any()


def test_folds_that_are_not_there() -> None:
    with pytest.raises(StudyError) as caught:
        plan_folds(STUDY, replace(COHORT, folds=None), "cohort")
    assert caught.value.code == "MMF-507"
    with pytest.raises(StudyError) as caught:
        plan_folds(STUDY, replace(COHORT, sites=("one",) * 100), "leave-site-out")
    assert caught.value.code == "MMF-507"


def test_follow_up_of_the_training_part() -> None:
    plan = plan_folds(STUDY, COHORT, "cohort")
    held_out = plan.held_out(plan.folds[0])
    time, event = training_follow_up(COHORT, held_out)
    outcomes = COHORT.patients.outcomes
    rows = ~held_out & outcomes.survival_known.numpy()
    np.testing.assert_array_equal(time, outcomes.time_days.double().numpy()[rows])
    assert event.sum() == outcomes.event.numpy()[rows].sum()
