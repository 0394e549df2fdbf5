"""Calibration by thirds of risk."""

from __future__ import annotations

import numpy as np
import pytest
from lifelines import KaplanMeierFitter

from mmfed_common.metrics import calibration_table, risk_thirds


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
