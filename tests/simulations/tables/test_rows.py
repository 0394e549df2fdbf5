"""Rows: scored once, kept whole, and put together over cohorts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.simulations.evaluation.toy_cohort import STUDY, toy_cohort, toy_topology

from mmfed_common.metrics import Estimate
from mmfed_simulations.evaluation.folds import plan_folds
from mmfed_simulations.evaluation.variants import Variant, train_variants
from mmfed_simulations.tables.ablations import verdict
from mmfed_simulations.tables.across import Difference, mean_difference
from mmfed_simulations.tables.markdown import figure
from mmfed_simulations.tables.methods import METHODS
from mmfed_simulations.tables.rows import RowCache, RowResult, score_row
from mmfed_simulations.tables.training import averaged

TOY = STUDY.with_changes(contract={"response": None, "toxicity": None})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RowResult:
    plan = plan_folds(TOY, toy_cohort(), "cohort")
    variants = {name: Variant(name, lambda study: study) for name in ("cox_clinical", "pooled")}
    table = train_variants(variants, plan, toy_topology(), tmp_path_factory.mktemp("rows"), workers=1)
    rows = {str(arm): found for arm, found in table.groupby("arm")}
    return score_row(plan, TOY, "cox_clinical", rows, {"why": "a test"})


def test_a_row_has_its_figures_and_its_paired_differences(made: RowResult) -> None:
    assert made.study == TOY.hash
    assert made.figures["survival"]["c_index"].estimate is not None
    difference = made.differences["pooled"]["survival"]
    assert len(difference.draws) == TOY.evaluation.bootstrap
    low, high = np.percentile(difference.draws, [2.5, 97.5])
    assert difference.estimate.low == pytest.approx(low, abs=1e-4)
    assert difference.estimate.high == pytest.approx(high, abs=1e-4)
    plain = made.plain()
    assert plain["differences"]["pooled"]["survival"] == difference.estimate.as_dict()
    assert "draws" not in json.dumps(plain)


def test_a_row_is_made_once_and_read_as_it_was(made: RowResult, tmp_path: Path) -> None:
    cache, calls = RowCache(tmp_path), []

    def make() -> RowResult:
        calls.append(1)
        return made

    first = cache.get("t/c/r", {"study": "a"}, make)
    again = cache.get("t/c/r", {"study": "a"}, make)
    assert len(calls) == 1
    assert again.plain() == first.plain()
    assert again.seconds is not None
    assert again.seconds == first.seconds >= 0.0
    assert "seconds" not in again.plain()
    assert again.differences["pooled"]["survival"].draws == made.differences["pooled"]["survival"].draws
    cache.get("t/c/r", {"study": "b"}, make)
    assert len(calls) == 2


def difference(value: float, spread: float, seed: int) -> Difference:
    draws = np.random.default_rng(seed).normal(value, spread, 4000)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Difference(Estimate(value, float(low), float(high), 100, 30), tuple(draws))


def test_a_mean_over_cohorts_is_narrower_than_each() -> None:
    found = mean_difference([difference(0.02 * k, 0.02, k) for k in range(4)])
    assert found.estimate == pytest.approx(0.03)
    assert (found.n, found.events) == (400, 120)
    assert found.low is not None
    assert found.high is not None
    # Four independent ones: half the deviation, 0.02 / √4 = 0.01.
    assert found.low == pytest.approx(0.03 - 1.96 * 0.01, abs=0.002)
    assert found.high == pytest.approx(0.03 + 1.96 * 0.01, abs=0.002)
    missing = Difference(Estimate(None, None, None, 0, 0), ())
    assert mean_difference([difference(0.1, 0.01, 1), missing]).estimate is None


def test_members_of_an_ensemble_are_averaged_patient_by_patient() -> None:
    first = pd.DataFrame(
        {
            "arm": "a",
            "fold": ["0", "0"],
            "patient_id": ["p", "q"],
            "event": [1.0, 0.0],
            "risk_score": [1.0, 2.0],
            "survival_365": [0.2, 0.4],
            "toxicity_true_nausea": [1.0, 0.0],
        }
    )
    second = first.iloc[::-1].assign(risk_score=[4.0, 3.0], survival_365=[0.8, 0.6])
    found = averaged([first, second])
    assert found["risk_score"].tolist() == [2.0, 3.0]
    assert found["survival_365"].tolist() == [0.4, 0.6000000000000001]
    assert found["toxicity_true_nausea"].tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="different patients"):
        averaged([first, second.assign(patient_id=["r", "p"])])


def test_every_method_makes_a_study_of_its_own() -> None:
    hashes = {(m.change(TOY).hash, m.shuffled, m.members, m.arm) for m in METHODS.values()}
    assert len(hashes) == len(METHODS)
    for method in METHODS.values():
        assert method.against is None or method.against in METHODS
        assert method.change(TOY).evaluation == TOY.evaluation


def test_words_and_figures_say_what_an_interval_says() -> None:
    assert verdict(Estimate(0.02, 0.01, 0.03, 1, 1)) == "better"
    assert verdict(Estimate(-0.02, -0.03, -0.01, 1, 1)) == "worse"
    assert verdict(Estimate(0.02, -0.01, 0.03, 1, 1)) == "no difference seen"
    assert verdict(Estimate(0.02, None, None, 1, 1)) == "not known"
    assert figure(Estimate(0.02, -0.01, 0.03, 1, 1), "+") == "+.020 [-.010, +.030]"
    assert figure(Estimate(None, None, None, 0, 0)) == "–"
