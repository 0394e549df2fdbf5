"""Choosing by inner folds: it sees training patients only, and takes what is better there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tests.simulations.evaluation.toy_cohort import STUDY, toy_cohort, toy_topology

from mmfed_client.cohort import Cohort
from mmfed_common.study import Study
from mmfed_simulations.evaluation.folds import FoldPlan, plan_folds
from mmfed_simulations.evaluation.nested import Selected, select_by_inner_folds, training_cohort
from mmfed_simulations.evaluation.variants import Variant

CLINICAL = STUDY.with_changes(
    contract={"response": None, "toxicity": None},
    training={"stages": [{"level": "clinical", "rounds": 15, "learning_rate": 0.5}], "optimiser": "sgd"},
)


def without_age(study: Study) -> Study:
    return study.with_changes(model={"clinical_path": False, "additive_path": False})


def plan_of(cohort: Cohort) -> FoldPlan:
    return plan_folds(CLINICAL, cohort, "cohort")


def select(cohort: Cohort, folder: Path) -> Selected:
    candidates = {
        "nothing": Variant("federated", without_age),
        "clinical": Variant("federated", lambda study: study),
    }
    plan = plan_of(cohort)
    return select_by_inner_folds(
        candidates, plan, toy_topology(), folder, arm="chosen", inner_folds=2, workers=1
    )


def spoiled(cohort: Cohort, fold: int) -> Cohort:
    """The outcomes of one fold's patients turned upside down."""
    outcomes = cohort.patients.outcomes
    held_out = torch.from_numpy(np.array(cohort.folds) == fold)
    time = torch.where(held_out, outcomes.time_days.max() + 1 - outcomes.time_days, outcomes.time_days)
    event = torch.where(held_out, 1 - outcomes.event, outcomes.event)
    return replace(
        cohort, patients=replace(cohort.patients, outcomes=replace(outcomes, time_days=time, event=event))
    )


def test_the_better_setting_is_taken_in_every_fold(tmp_path: Path) -> None:
    cohort = toy_cohort(160)
    found = select(cohort, tmp_path)
    assert found.chosen == {"0": "clinical", "1": "clinical"}
    for scores in found.inner.values():
        nothing, clinical = scores["nothing"], scores["clinical"]
        assert nothing == 0.5
        assert clinical is not None
        assert clinical > 0.55
    assert sorted(found.rows["patient_id"]) == sorted(cohort.patients.patient_ids)
    assert set(found.rows["arm"]) == {"chosen"}
    again = select(cohort, tmp_path)
    assert again.inner == found.inner
    assert again.rows.equals(found.rows)


def test_inner_folds_never_see_the_patients_that_judge(tmp_path: Path) -> None:
    cohort = toy_cohort(160)
    plan = plan_of(cohort)
    for fold in plan.folds:
        inside = set(training_cohort(plan, fold).patients.patient_ids)
        outside = {
            name for name, held in zip(cohort.patients.patient_ids, plan.held_out(fold), strict=True) if held
        }
        assert inside.isdisjoint(outside)
        assert inside | outside == set(cohort.patients.patient_ids)
    honest = select(cohort, tmp_path / "honest")
    other = select(spoiled(cohort, 0), tmp_path / "spoiled")
    assert other.inner["0"] == honest.inner["0"]
    assert other.inner["1"] != honest.inner["1"]
