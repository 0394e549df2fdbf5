"""Bootstrap: seeded, within folds, paired; intervals that mean what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mmfed_common.metrics import Measured, bootstrap_counts, combine, harrell_c, paired_difference
from mmfed_common.metrics.estimate import undefined
from mmfed_common.metrics.resampled import MeanRatio


def _mean_of(values: np.ndarray) -> Measured:
    return Measured(float(values.mean()), MeanRatio(values, np.ones(len(values))), len(values), None)


def test_counts_are_repeatable_and_complete() -> None:
    counts = bootstrap_counts(40, 100, 7, "survival", 0)
    assert counts.shape == (100, 40)
    assert (counts.sum(axis=1) == 40).all()
    np.testing.assert_array_equal(counts, bootstrap_counts(40, 100, 7, "survival", 0))
    assert (counts != bootstrap_counts(40, 100, 7, "survival", 1)).any()
    # a patient is left out of a resample with probability (1 - 1/40)^40 = .363
    assert (counts == 0).mean() == pytest.approx((1 - 1 / 40) ** 40, abs=0.03)


def test_interval_of_a_mean_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    estimate = combine({0: _mean_of(values)}, {0: bootstrap_counts(400, 2000, 1)})
    error = values.std() / math.sqrt(400)
    assert estimate.estimate == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - 1.96 * error, abs=0.02)
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.02)
    assert estimate.n == 400
    assert estimate.events is None


def test_mean_over_folds_never_compares_patients_of_different_folds() -> None:
    """Each fold is ranked perfectly, on scales that contradict each other when pooled."""
    time = np.array([1.0, 2.0, 3.0])
    event = np.ones(3, bool)
    early = harrell_c(np.array([3.0, 2.0, 1.0]), time, event)
    late = harrell_c(np.array([3.0, 2.0, 1.0]) + 100, time + 100, event)
    counts = {k: bootstrap_counts(3, 50, k) for k in (0, 1)}
    estimate = combine({0: early, 1: late}, counts)
    assert estimate.estimate == 1.0
    assert (estimate.n, estimate.events) == (6, 6)


def test_a_fold_without_a_value_is_left_out() -> None:
    values = np.array([1.0, 2.0, 3.0])
    measured = {0: _mean_of(values), 1: undefined(5, None)}
    counts = {0: bootstrap_counts(3, 50, 0), 1: bootstrap_counts(5, 50, 1)}
    estimate = combine(measured, counts)
    assert estimate.estimate == 2.0
    assert estimate.n == 3
    nothing = combine({1: undefined(5, 0)}, counts)
    assert (nothing.estimate, nothing.low, nothing.n, nothing.events) == (None, None, 0, 0)


def test_paired_difference_is_narrower_than_two_intervals() -> None:
    random = np.random.default_rng(2)
    base = random.normal(size=300)
    first, second = _mean_of(base + 0.1), _mean_of(base + 0.001 * random.normal(size=300))
    counts = {0: bootstrap_counts(300, 500, 3)}
    difference = paired_difference({0: first}, {0: second}, counts)
    alone = combine({0: first}, counts)
    assert difference.estimate == pytest.approx(first.value - second.value)
    assert difference.low is not None
    assert difference.high is not None
    assert alone.low is not None
    assert alone.high is not None
    assert difference.high - difference.low < (alone.high - alone.low) / 50
    assert difference.low > 0


def test_difference_from_itself_is_nothing() -> None:
    one = {0: _mean_of(np.arange(10.0))}
    difference = paired_difference(one, one, {0: bootstrap_counts(10, 50, 3)})
    assert (difference.estimate, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_different_patients_cannot_be_paired() -> None:
    first, second = {0: _mean_of(np.arange(10.0))}, {0: _mean_of(np.arange(9.0))}
    with pytest.raises(ValueError, match="same patients"):
        paired_difference(first, second, {0: bootstrap_counts(10, 50, 3)})


def test_no_interval_where_most_resamples_have_no_value() -> None:
    """Two of thirty patients allow one comparable pair; most resamples miss one of them."""
    time = np.full(30, 5.0)
    event = np.zeros(30, bool)
    event[0], time[0], time[2:] = True, 4.0, 1.0
    measured = harrell_c(np.arange(30.0)[::-1].copy(), time, event)
    assert measured.value == 1.0
    estimate = combine({0: measured}, {0: bootstrap_counts(30, 200, 5)})
    assert (estimate.low, estimate.high) == (None, None)
