"""Coverage of lower bounds under censoring."""

from __future__ import annotations

import numpy as np
import pytest

from mmfed_common.metrics import Censoring, coverage, coverage_limits


def test_without_censoring_it_is_the_share() -> None:
    time = np.array([100.0, 200.0, 300.0, 400.0])
    event = np.ones(4, dtype=bool)
    found = coverage(np.full(4, 250.0), time, event, Censoring(time, event))
    assert found.value == 0.5
    twice_the_first = found.resampled(np.array([[2.0, 0.0, 1.0, 1.0]]))
    assert twice_the_first.tolist() == [0.5]


def test_a_death_on_the_day_of_the_bound_is_covered() -> None:
    time, event = np.array([100.0]), np.array([True])
    assert coverage(np.array([100.0]), time, event, Censoring(time, event)).value == 1.0
    assert coverage_limits(np.array([100.0]), time, event) == (1.0, 1.0)


def test_censored_patients_do_not_count_as_covered() -> None:
    """A bound that 20 % outlive not: the weighted share finds it, the plain share of seen deaths does not."""
    random = np.random.default_rng(0)
    death, limit = random.exponential(1000, 20_000), random.exponential(700, 20_000)
    time, event = np.minimum(death, limit), death <= limit
    bound = np.full(len(time), -1000 * np.log(0.8))
    found = coverage(bound, time, event, Censoring(time, event))
    assert found.value == pytest.approx(0.8, abs=0.01)
    least, greatest = coverage_limits(bound, time, event)
    assert least < 0.8 < greatest
    assert greatest - found.value > 0.01


def test_no_bound_no_figure() -> None:
    time, event = np.array([100.0]), np.array([True])
    assert not coverage(np.array([np.nan]), time, event, Censoring(time, event)).defined
