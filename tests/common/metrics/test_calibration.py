"""Calibration by thirds of risk."""

from __future__ import annotations

import numpy as np
import pytest
from lifelines import KaplanMeierFitter

from mmfed_common.metrics import calibration_slope, calibration_table, risk_thirds


def test_thirds_are_within_folds_and_even() -> None:
    risk = np.concatenate([np.arange(10.0), 1000 + np.arange(11.0)])
    fold = np.array([0] * 10 + [1] * 11)
    third = risk_thirds(risk, fold)
    for k in (0, 1):
        sizes = np.bincount(third[fold == k], minlength=3)
        assert sizes.max() - sizes.min() <= 1
        assert (np.diff(third[fold == k]) >= 0).all()


def test_ties_do_not_upset_the_sizes() -> None:
    assert np.bincount(risk_thirds(np.zeros(9), np.zeros(9))).tolist() == [3, 3, 3]


def test_observed_and_expected() -> None:
    random = np.random.default_rng(1)
    time = random.exponential(1000, 300)
    event = time < 1500
    time = np.minimum(time, 1500)
    survival = np.full((300, 2), np.exp(-0.5))
    third = risk_thirds(random.random(300), np.zeros(300))
    rows = calibration_table(survival, [500.0, 1600.0], time, event, third)
    everyone = rows[0]
    fitted = KaplanMeierFitter().fit(time, event)
    assert everyone["third"] == "all"
    assert everyone["observed"] == pytest.approx(1 - fitted.predict(500.0))
    assert everyone["low"] < everyone["observed"] < everyone["high"]
    assert everyone["expected"] == pytest.approx(1 - np.exp(-0.5))
    assert everyone["observed_over_expected"] == pytest.approx(1.0, abs=0.15)
    assert [row["observed"] for row in rows if row["horizon_days"] == 1600.0] == [None] * 4
    assert sum(row["n"] for row in rows[1:4]) == 300


def _proportional(n: int, true_slope: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    predictor = random.normal(0, 1, n)
    death = random.exponential(1000 * np.exp(-true_slope * predictor))
    limit = random.uniform(200, 3000, n)
    return predictor, np.minimum(death, limit), death <= limit


@pytest.mark.parametrize("slope", [0.5, 1.0])
def test_the_slope_of_a_predictor_is_found(slope: float) -> None:
    predictor, time, event = _proportional(3000, slope)
    fold = np.arange(3000) % 3
    shifted = predictor + 5.0 * fold  # folds come from different models: their levels are not compared
    found = calibration_slope(shifted, time, event, fold)
    assert found.estimate == pytest.approx(slope, abs=0.06)
    assert found.low is not None
    assert found.high is not None
    assert found.low < slope < found.high


def test_no_slope_without_deaths_or_without_differences() -> None:
    predictor, time, event = _proportional(50, 1.0)
    assert calibration_slope(predictor, time, np.zeros(50, dtype=bool), np.zeros(50)).estimate is None
    assert calibration_slope(np.ones(50), time, event, np.zeros(50)).estimate is None
