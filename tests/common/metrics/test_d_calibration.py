"""D-calibration and the residual test: uniform p under right curves, small p under wrong ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mmfed_common.metrics.d_calibration import (
    CalibrationTest,
    d_calibration,
    d_calibration_shares,
    deaths_over_follow_up,
    residual_test,
)

SMALL, REPEATS = 300, 400


def _cohort(generator: np.random.Generator, n: int, *, censored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Unit-exponential residuals, and which of them ended in death; about 55 % are censored if any."""
    residual = generator.exponential(size=n)
    limit = generator.exponential(0.8, size=n) if censored else np.full(n, np.inf)
    return np.minimum(residual, limit), residual <= limit


def test_shares_by_hand() -> None:
    """Two deaths at .95 and .25; one censored at .5, spread over the five tenths below, at a fifth each."""
    shares = d_calibration_shares(np.array([0.95, 0.25, 0.5]), np.array([True, True, False]))
    assert shares == pytest.approx([0.2, 0.2, 1.2, 0.2, 0.2, 0, 0, 0, 0, 1])
    assert shares.sum() == pytest.approx(3)


def test_a_censoring_within_a_tenth_fills_its_part_of_it() -> None:
    shares = d_calibration_shares(np.array([0.25]), np.array([False]))
    assert shares[:3] == pytest.approx([0.4, 0.4, 0.2])


def test_the_statistic_is_pearsons() -> None:
    own = np.random.default_rng(0).random(200) ** 1.3
    found = d_calibration(own, np.ones(200, dtype=bool))
    by_scipy = stats.chisquare(np.histogram(own, bins=np.linspace(0, 1, 11))[0])
    assert found.statistic == pytest.approx(by_scipy.statistic)
    assert found.p == pytest.approx(by_scipy.pvalue)
    assert found.as_dict()["rejected"] is bool(by_scipy.pvalue < 0.05)


def test_p_is_uniform_under_right_curves_without_censoring() -> None:
    generator = np.random.default_rng(1)
    ps = []
    for _ in range(REPEATS):
        residual, event = _cohort(generator, SMALL, censored=False)
        ps.append(d_calibration(np.exp(-residual), event).p)
    assert stats.kstest(ps, "uniform").pvalue > 0.01
    assert np.mean(np.array(ps) < 0.05) < 0.09


@pytest.mark.parametrize("censored", [False, True])
def test_the_level_of_the_residual_test_holds_with_and_without_censoring(censored: bool) -> None:
    generator = np.random.default_rng(2)
    ps = [residual_test(*_cohort(generator, SMALL, censored=censored)).p for _ in range(REPEATS)]
    assert 0.02 < np.mean(np.array(ps) < 0.05) < 0.09
    assert stats.kstest(ps, "uniform").pvalue > 0.01


def test_haiders_test_is_conservative_under_censoring() -> None:
    """Why the residual test stands beside it."""
    generator = np.random.default_rng(3)
    ps = []
    for _ in range(REPEATS):
        residual, event = _cohort(generator, SMALL, censored=True)
        ps.append(d_calibration(np.exp(-residual), event).p)
    assert np.mean(np.array(ps) < 0.05) < 0.03


@pytest.mark.parametrize("test", ["d_calibration", "residuals"])
def test_wrong_curves_are_rejected(test: str) -> None:
    """Curves twice as steep as the truth, with half of the patients censored."""
    generator = np.random.default_rng(4)
    rejected = 0
    for _ in range(40):
        residual, event = _cohort(generator, SMALL, censored=True)
        wrong = 2.0 * residual
        found: CalibrationTest = (
            d_calibration(np.exp(-wrong), event) if test == "d_calibration" else residual_test(wrong, event)
        )
        rejected += found.rejected
    assert rejected >= 36


def test_intervals_are_joined_until_enough_is_expected() -> None:
    residual, event = np.full(30, 0.2), np.zeros(30, dtype=bool)
    found = residual_test(residual, event)
    assert found.freedom == 1  # 30 × 0.2 = 6 deaths expected in all
    assert found.statistic == pytest.approx(6.0)
    nobody = residual_test(np.zeros(0), np.zeros(0, dtype=bool))
    assert (nobody.freedom, nobody.p) == (0, 1.0)


def test_deaths_over_follow_up() -> None:
    residual, event = np.array([0.5, 1.5, 2.0]), np.array([True, True, False])
    found = deaths_over_follow_up(residual, event)
    assert found["observed"] == 2
    assert found["expected"] == 4.0
    assert found["ratio"] == 0.5
    # Garwood's exact interval for 2 events: 0.2422 to 7.2247
    assert found["low"] == pytest.approx(0.2422 / 4, abs=1e-4)
    assert found["high"] == pytest.approx(7.2247 / 4, abs=1e-4)
    assert deaths_over_follow_up(np.zeros(2), np.zeros(2, dtype=bool))["ratio"] is None
