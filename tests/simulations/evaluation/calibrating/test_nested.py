"""Nested calibration: every pair of folds once, and nothing of a fold in what calibrates it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.simulations.evaluation.toy_cohort import STUDY, toy_cohort, toy_topology

from mmfed_client.cohort import Cohort
from mmfed_common.bundle import load_bundle
from mmfed_common.errors import StudyError
from mmfed_simulations.evaluation.calibrating.nested import merged, nested_predictions, rounds_of_pairs
from mmfed_simulations.evaluation.calibrating.recalibration import TEST_FOLD
from mmfed_simulations.evaluation.compare import compare
from mmfed_simulations.evaluation.folds import FoldPlan, plan_folds
from mmfed_simulations.evaluation.predictions import LOWER_BOUND

TOPOLOGY = toy_topology()
BRIEF = STUDY.with_changes(
    training={"stages": [{"level": "clinical", "rounds": 1}]}, evaluation={"folds": 3, "every": 0}
)


def three_folds(n: int = 96) -> Cohort:
    """The toy cohort in three folds."""
    cohort = toy_cohort(n)
    return replace(cohort, folds=tuple((k // 4) % 3 for k in range(n)))


@pytest.mark.parametrize("count", [3, 4, 5, 10])
def test_every_pair_comes_once_and_no_fold_twice_in_a_round(count: int) -> None:
    rounds = list(rounds_of_pairs(count))
    assert sorted(pair for pairs in rounds for pair in pairs) == list(combinations(range(count), 2))
    for pairs in rounds:
        folds = [fold for pair in pairs for fold in pair]
        assert len(set(folds)) == len(folds)


def test_both_folds_of_a_pair_are_held_out() -> None:
    cohort = three_folds()
    plan = plan_folds(BRIEF, cohort, "cohort")
    together = FoldPlan(merged(cohort, [(0, 2)]), plan.folds, "")
    held_out = together.held_out(plan.folds[0])
    assert cohort.folds is not None
    assert held_out.tolist() == [fold in (0, 2) for fold in cohort.folds]


def test_nothing_of_a_fold_is_in_what_calibrates_it(tmp_path: Path) -> None:
    """Turn fold 1's outcomes upside down: rows that calibrate fold 1 stay as they were, bit for bit."""
    cohort = three_folds()
    assert cohort.folds is not None
    mine = torch.tensor([fold == 1 for fold in cohort.folds])
    outcomes = cohort.patients.outcomes
    turned = replace(
        outcomes,
        time_days=torch.where(mine, 3000 - outcomes.time_days, outcomes.time_days),
        event=torch.where(mine, 1 - outcomes.event, outcomes.event),
    )
    other = replace(cohort, patients=replace(cohort.patients, outcomes=turned))
    found = []
    for k, one in enumerate((cohort, other)):
        plan = plan_folds(BRIEF, one, "cohort")
        cache = tmp_path / str(k)
        cache.mkdir()
        found.append(nested_predictions(plan, TOPOLOGY, cache, 1, None))
    predicted = [c for c in found[0] if c.startswith(("risk_score", "survival_"))]
    for rows in found:
        assert len(rows) == 2 * len(cohort.patients)
        assert (rows["fold"] != rows[TEST_FOLD]).all()
        assert not rows.duplicated(["patient_id", TEST_FOLD]).any()
    first, second = (rows.set_index(["patient_id", TEST_FOLD]).sort_index() for rows in found)
    for_one = first.index.get_level_values(TEST_FOLD) == "1"
    pd.testing.assert_frame_equal(first.loc[for_one, predicted], second.loc[for_one, predicted])
    calibrates_others = ~for_one & (first["fold"] != "1").to_numpy()
    assert not first.loc[calibrates_others, predicted].equals(second.loc[calibrates_others, predicted])


def test_a_comparison_with_nested_calibration(tmp_path: Path) -> None:
    arms = ["federated", "cox_clinical"]
    found = compare(BRIEF, three_folds(), TOPOLOGY, tmp_path, arms=arms, calibration="nested", workers=1)
    tables = found.results["calibration"]
    assert tables["federated"]["lower_bound"]["source"] == "nested"
    assert tables["cox_clinical"]["lower_bound"]["source"] == "cross-fitted"
    assert found.predictions[LOWER_BOUND].notna().all()
    assert (found.predictions[LOWER_BOUND] >= 0).all()
    assert pd.read_parquet(tmp_path / "predictions.parquet")[LOWER_BOUND].equals(
        found.predictions[LOWER_BOUND]
    )
    bundle = load_bundle(tmp_path / "model")
    assert bundle.calibration is not None
    assert bundle.calibration["lower_bound"]["level"] == 0.9
    assert "calibration" not in bundle.metrics
    card = (tmp_path / "model" / "model_card.md").read_text()
    assert "Lower bound on survival time, 90%" in card
    assert "Calibration and uncertainty" in found.report.read_text()


def test_sites_that_are_left_out_cannot_be_nested(tmp_path: Path) -> None:
    plan = plan_folds(BRIEF, three_folds(), "leave-site-out")
    with pytest.raises(StudyError, match="sites") as caught:
        nested_predictions(plan, TOPOLOGY, tmp_path, 1, None)
    assert caught.value.code == "MMF-511"
    two = plan_folds(STUDY, toy_cohort(), "cohort")
    with pytest.raises(StudyError, match="3 to 10"):
        nested_predictions(two, TOPOLOGY, tmp_path, 1, None)
