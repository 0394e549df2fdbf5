"""Conformal lower bounds: coverage of 90 % on large made-up cohorts, whatever the model is worth."""

from __future__ import annotations

import numpy as np
import pytest

from mmfed_common.recalibration import LowerBound, fit_lower_bound
from mmfed_common.recalibration.conformal import LEAST_FOLLOWED, MOST_DAYS

BINS = [180.0, 365.0, 545.0, 730.0, 1095.0, 1460.0, 1826.25, 2555.0, 3650.0]
SCALE = 1500.0


def _cohort(
    generator: np.random.Generator, n: int, dependence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Risk, day of death, day of censoring, which depends on the risk as strongly as asked."""
    risk = generator.normal(0, 0.8, n)
    death = generator.exponential(SCALE * np.exp(-risk))
    limit = generator.exponential(1200 * np.exp(dependence * risk))
    return risk, death, limit


def _curves(risk: np.ndarray, slope: float, level: float) -> np.ndarray:
    """Predicted curves: right with slope 1 and level 0."""
    rate = np.exp(slope * risk + level)[:, None]
    return np.asarray(np.exp(-np.array(BINS)[None] / SCALE * rate))


def _coverage(slope: float, level: float, dependence: float, n: int, repeats: int = 20) -> float:
    """Mean true coverage on new patients, whose day of death is known whether or not it would be seen."""
    generator = np.random.default_rng(7)
    reached = []
    for _ in range(repeats):
        risk, death, limit = _cohort(generator, n, dependence)
        bound = fit_lower_bound(_curves(risk, slope, level), BINS, np.minimum(death, limit), death <= limit)
        assert bound is not None
        new, new_death, _ = _cohort(generator, 5000, dependence)
        reached.append((new_death >= bound.days(_curves(new, slope, level), BINS)).mean())
    return float(np.mean(reached))


@pytest.mark.parametrize(
    ("slope", "level"), [(1.0, 0.0), (2.0, 0.0), (0.3, 0.0), (1.0, 0.7), (1.0, -0.7), (0.0, 0.0)]
)
def test_coverage_with_independent_censoring_whatever_the_model(slope: float, level: float) -> None:
    assert _coverage(slope, level, dependence=0.0, n=500) == pytest.approx(0.9, abs=0.012)


@pytest.mark.parametrize("dependence", [0.8, -0.8])
def test_coverage_with_censoring_by_risk_where_the_curves_are_right(dependence: float) -> None:
    assert _coverage(1.0, 0.0, dependence, n=500) == pytest.approx(0.9, abs=0.012)


def test_what_is_assumed_matters() -> None:
    """Curves that are too sure, and censoring by risk: neither assumption holds, nor does the bound."""
    assert _coverage(3.0, 0.0, dependence=1.0, n=500) < 0.88


def test_without_censoring_it_is_split_conformal() -> None:
    """The k-th smallest score with k = ⌊(n + 1) / 10⌋, as in every text on conformal prediction."""
    generator = np.random.default_rng(3)
    n = 199
    risk = generator.normal(0, 0.2, n)  # so that nobody who is followed longest dies early on his curve
    death = np.minimum(generator.exponential(SCALE * np.exp(-risk)), 3600.0)
    curves = _curves(risk, 1.0, 0.0)
    bound = fit_lower_bound(curves, BINS, death, np.ones(n, dtype=bool))
    assert bound is not None
    score = 1 - np.exp(-death / SCALE * np.exp(risk))
    assert bound.death_probability == pytest.approx(np.sort(score)[(n + 1) // 10 - 1])


def test_right_curves_are_read_at_about_a_tenth() -> None:
    risk, death, limit = _cohort(np.random.default_rng(1), 3000, 0.0)
    bound = fit_lower_bound(_curves(risk, 1.0, 0.0), BINS, np.minimum(death, limit), death <= limit)
    assert bound is not None
    assert bound.death_probability == pytest.approx(0.1, abs=0.015)
    assert (bound.n, bound.events) == (3000, int((death <= limit).sum()))


def test_many_days_of_censoring_are_thinned_without_harm() -> None:
    """More than 400 days of censoring, against the same cohort with censoring counted in tens of days."""
    risk, death, limit = _cohort(np.random.default_rng(1), 1500, 0.0)
    curves, time, event = _curves(risk, 1.0, 0.0), np.minimum(death, limit), death <= limit
    assert (~event).sum() > 1.4 * MOST_DAYS
    whole = fit_lower_bound(curves, BINS, time, event)
    to_days = fit_lower_bound(curves, BINS, np.where(event, time, np.ceil(time / 10) * 10), event)
    assert whole is not None
    assert to_days is not None
    assert whole.death_probability == pytest.approx(to_days.death_probability, abs=0.002)


def test_no_bound_goes_beyond_what_was_followed() -> None:
    risk, death, limit = _cohort(np.random.default_rng(1), 400, 0.0)
    limit = np.minimum(limit, 900.0)
    time = np.minimum(death, limit)
    bound = fit_lower_bound(_curves(risk, 1.0, 0.0), BINS, time, death <= limit)
    assert bound is not None
    assert bound.longest_days <= 900.0
    safe = np.full((1, len(BINS)), 0.999)
    assert bound.days(safe, BINS).tolist() == [bound.longest_days]
    assert LowerBound(0.9, 0.1, 5000.0, 1, 1).days(safe, BINS).tolist() == [BINS[-1]]


def test_few_patients_get_a_trivial_bound_or_none() -> None:
    risk, death, _ = _cohort(np.random.default_rng(1), LEAST_FOLLOWED, 0.0)
    everyone = np.ones(LEAST_FOLLOWED, dtype=bool)
    assert fit_lower_bound(_curves(risk, 1.0, 0.0), BINS, death, everyone) is None
    nobody_died = fit_lower_bound(_curves(np.zeros(40), 1.0, 0.0), BINS, np.arange(40.0), np.zeros(40, bool))
    assert nobody_died is not None
    assert nobody_died.days(_curves(np.zeros(1), 1.0, 0.0), BINS).tolist() == [0.0]


def test_same_patients_in_another_order_same_bound() -> None:
    risk, death, limit = _cohort(np.random.default_rng(1), 300, 0.5)
    curves, time, event = _curves(risk, 1.3, 0.0), np.minimum(death, limit), death <= limit
    order = np.random.default_rng(2).permutation(300)
    one = fit_lower_bound(curves, BINS, time, event)
    other = fit_lower_bound(curves[order], BINS, time[order], event[order])
    assert one is not None
    assert other is not None
    assert other.death_probability == one.death_probability
