"""Survival metrics: equal to lifelines and to hand-worked values; resampled form equal to torchsurv."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.datasets import load_rossi
from lifelines.utils import concordance_index
from torchsurv.metrics.brier_score import BrierScore

from mmfed_common.metrics import (
    Censoring,
    auc_at,
    brier_scores,
    evaluation_times,
    harrell_c,
    integrated_brier,
    uno_c,
)
from mmfed_common.metrics.estimate import Floats, bootstrap_counts
from mmfed_common.metrics.resampled import Bools


def _cohort(n: int, seed: int, *, ties: bool = True) -> tuple[Floats, Floats, Bools]:
    """Risk, time and event of ``n`` patients, with tied times and risks unless told otherwise."""
    random = np.random.default_rng(seed)
    risk = random.normal(size=n).round(1 if ties else 6)
    time = np.ceil(random.exponential(900 * np.exp(-0.7 * risk)) / (30 if ties else 1)) * 30 + 1
    event = random.random(n) < 0.55
    event[:2] = True
    return risk, time.astype(float), event


def _ones(n: int) -> Floats:
    return np.ones((1, n))


def test_harrell_is_that_of_lifelines_on_rossi() -> None:
    """Source of 0.64: the lifelines documentation's summary of this very model."""
    rossi = load_rossi()
    model = CoxPHFitter().fit(rossi, "week", "arrest")
    risk = model.predict_partial_hazard(rossi).to_numpy()
    time, event = rossi["week"].to_numpy(float), rossi["arrest"].to_numpy(bool)
    measured = harrell_c(risk, time, event)
    assert measured.value == pytest.approx(model.concordance_index_, abs=1e-6)
    assert round(measured.value, 2) == 0.64
    assert (measured.n, measured.events) == (432, 114)


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 60), st.integers(0, 10_000))
def test_harrell_equals_lifelines_with_ties(n: int, seed: int) -> None:
    risk, time, event = _cohort(n, seed)
    measured = harrell_c(risk, time, event)
    if not measured.defined:
        with pytest.raises(ZeroDivisionError):
            concordance_index(time, -risk, event)
        return
    assert measured.value == pytest.approx(concordance_index(time, -risk, event), abs=1e-6)
    assert measured.resampled(_ones(n))[0] == pytest.approx(measured.value, abs=1e-6)


def test_harrell_by_hand() -> None:
    """Four patients; comparable pairs (1,2), (1,3), (1,4), (3,4); ordered 1, ½, 1, 0."""
    time = np.array([1.0, 2.0, 3.0, 4.0])
    event = np.array([True, False, True, False])
    risk = np.array([5.0, 1.0, 5.0, 6.0])
    assert harrell_c(risk, time, event).value == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert harrell_c(-risk, time, event).value == pytest.approx(1 - 1.5 / 4)


def test_higher_risk_means_earlier_death() -> None:
    time = np.array([100.0, 200.0, 300.0])
    assert harrell_c(-time, time, np.ones(3, bool)).value == 1.0


def test_tiny_differences_between_risks_are_not_ties() -> None:
    time = np.array([1.0, 2.0, 3.0])
    risk = np.array([3e-12, 2e-12, 1e-12])
    assert harrell_c(risk, time, np.ones(3, bool)).value == 1.0


def test_without_a_comparable_pair_there_is_no_value() -> None:
    measured = harrell_c(np.array([1.0, 2.0]), np.array([5.0, 5.0]), np.array([True, True]))
    assert not measured.defined
    assert math.isnan(measured.resampled(_ones(2))[0])
    assert not harrell_c(np.array([1.0, 2.0]), np.array([5.0, 6.0]), np.zeros(2, bool)).defined


def test_uno_by_hand() -> None:
    """Censoring curve of the training part: at day 2 one of three at risk leaves, so weights 1 and 3/2."""
    censoring = Censoring(np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, True]))
    np.testing.assert_allclose(censoring.weights(np.array([0.5, 1.0, 2.0, 3.5])), [1, 1, 1.5, 1.5])
    time = np.array([1.0, 3.0, 5.0])
    event = np.array([True, True, False])
    risk = np.array([1.0, 2.0, 0.0])
    # pairs of patient 1 (weight 1): below 2 → 0, above 3 → 1; of patient 2 (weight 2.25): above 3 → 1
    assert uno_c(risk, time, event, censoring, 1000.0).value == pytest.approx((0 + 1 + 2.25) / (2 + 2.25))
    # limited to deaths before day 3: only patient 1 counts
    assert uno_c(risk, time, event, censoring, 3.0).value == pytest.approx(1 / 2)


def test_uno_without_censoring_is_harrell() -> None:
    risk, time, _ = _cohort(80, 3)
    event = np.ones(80, bool)
    censoring = Censoring(time, event)
    assert uno_c(risk, time, event, censoring, 1e9).value == pytest.approx(harrell_c(risk, time, event).value)


@pytest.mark.parametrize("metric", ["harrell", "uno", "auc"])
@pytest.mark.parametrize("seed", range(4))
def test_resampled_form_equals_torchsurv_on_the_repeated_patients(metric: str, seed: int) -> None:
    risk, time, event = _cohort(70, seed)
    training = Censoring(*_cohort(150, seed + 100)[1:])
    measure = {
        "harrell": lambda r, t, e: harrell_c(r, t, e),
        "uno": lambda r, t, e: uno_c(r, t, e, training, 1800.0),
        "auc": lambda r, t, e: auc_at(r, t, e, training, 700.0),
    }[metric]
    counts = bootstrap_counts(70, 12, seed, "test")
    fast = measure(risk, time, event).resampled(counts)
    for row, value in zip(counts, fast, strict=True):
        again = np.repeat(np.arange(70), row.astype(int))
        assert value == pytest.approx(measure(risk[again], time[again], event[again]).value, abs=2e-6)


def test_auc_by_hand() -> None:
    time = np.array([1.0, 2.0, 5.0, 6.0])
    event = np.array([True, True, False, False])
    training = Censoring(np.arange(1.0, 30.0), np.ones(29, bool))
    assert auc_at(np.array([3.0, 1.0, 2.0, 0.0]), time, event, training, 3.0).value == pytest.approx(3 / 4)
    assert not auc_at(np.array([3.0, 1.0, 2.0, 0.0]), time, event, training, 10.0).defined


def test_brier_by_hand() -> None:
    """At day 4: dead, censored before, alive; weights of the training part 1, -, 3/2 as in Uno's test."""
    censoring = Censoring(np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, True]))
    time = np.array([1.0, 3.0, 9.0])
    event = np.array([True, False, True])
    survival = np.array([[0.2], [0.5], [0.6]])
    values, parts = brier_scores(survival, np.array([4.0]), time, event, censoring)
    np.testing.assert_allclose(parts[:, 0], [0.04, 0.0, 0.16 * 1.5], atol=1e-6)
    assert values[0] == pytest.approx((0.04 + 0.24) / 3)


def test_integrated_brier_is_torchsurvs_integral() -> None:
    random = np.random.default_rng(5)
    _, time, event = _cohort(60, 8)
    training = Censoring(*_cohort(200, 9)[1:])
    times = np.array([100.0, 300.0, 600.0, 1000.0])
    survival = np.sort(random.random((60, 4)))[:, ::-1].copy()
    absolute, relative = integrated_brier(survival, times, time, event, training)
    score = BrierScore()
    score(
        torch.from_numpy(survival),
        torch.from_numpy(event),
        torch.from_numpy(time.astype(np.float32)),
        torch.from_numpy(times.astype(np.float32)),
        torch.from_numpy(training.weights(time)),
        torch.from_numpy(training.weights(times)),
    )
    assert absolute.value == pytest.approx(float(score.integral()), rel=1e-5)
    counts = bootstrap_counts(60, 6, 1)
    for row, own, share in zip(counts, absolute.resampled(counts), relative.resampled(counts), strict=True):
        again = np.repeat(np.arange(60), row.astype(int))
        same, same_relative = integrated_brier(survival[again], times, time[again], event[again], training)
        assert own == pytest.approx(same.value, rel=1e-6)
        assert share == pytest.approx(same_relative.value, rel=1e-5)


def test_predicting_the_training_curve_is_no_better_than_itself() -> None:
    _, time, event = _cohort(60, 8)
    training = Censoring(*_cohort(200, 9)[1:])
    times = np.array([100.0, 300.0, 600.0])
    flat = np.tile(training.survival(times), (60, 1))
    assert integrated_brier(flat, times, time, event, training)[1].value == pytest.approx(0.0, abs=1e-12)


def test_brier_stops_where_too_few_training_patients_were_followed() -> None:
    _, time, event = _cohort(60, 8)
    training = Censoring(np.linspace(1, 1000, 100), np.tile([True, False], 50))
    times = np.array([100.0, 500.0, 990.0])
    survival = np.full((60, 3), 0.5)
    survival_wrong_late = survival.copy()
    survival_wrong_late[:, 2] = 0.0
    first = integrated_brier(survival, times, time, event, training)[0].value
    assert first == integrated_brier(survival_wrong_late, times, time, event, training)[0].value
    alone = integrated_brier(survival[:, 2:], times[2:], time, event, training)[0]
    assert not alone.defined


def test_brier_is_undefined_where_nobody_died() -> None:
    training = Censoring(np.linspace(1, 1000, 100), np.tile([True, False], 50))
    times = np.array([100.0, 500.0])
    alive = np.full((5, 2), 0.5)
    for measured in integrated_brier(alive, times, np.full(5, 700.0), np.zeros(5, bool), training):
        assert not measured.defined


def test_survival_of_the_training_part_is_kaplan_meier() -> None:
    _, time, event = _cohort(50, 2)
    fitter = KaplanMeierFitter().fit(time, event)
    at = np.array([0.0, 200.0, 777.0])
    np.testing.assert_allclose(Censoring(time, event).survival(at), [fitter.predict(t) for t in at])


def test_evaluation_times_end_at_the_last_horizon() -> None:
    np.testing.assert_array_equal(evaluation_times([100, 200, 400], [150, 300]), [100, 150, 200, 300])
