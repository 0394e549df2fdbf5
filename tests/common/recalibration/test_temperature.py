"""Temperatures: found again on patients from known hazards, one for each set of modalities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmfed_common.recalibration import Temperatures, fit_temperatures
from mmfed_common.recalibration.temperature import LEAST_EVENTS, Temperature, negative_log_likelihood
from mmfed_common.tasks import survival
from mmfed_common.tasks.curves import hazard_logits, seen_within, survival_at_own_time

BINS = [180.0, 365.25, 730.5, 1095.75, 1826.25]
BASE = np.array([-3.0, -2.6, -2.2, -2.4, -2.0])
SCENARIOS = ("clinical_feature", "clinical_feature+gene")
PLANTED = {"clinical_feature": 2.0, "clinical_feature+gene": 0.7}


def _curves(logits: np.ndarray) -> np.ndarray:
    return survival.survival_curve(torch.from_numpy(logits)).numpy()


def _cohort(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Predicted curves whose spread is the planted temperature times the true one; a quarter is censored."""
    random = np.random.default_rng(seed)
    names = [SCENARIOS[k % 2] for k in range(n)]
    score = random.normal(0, 0.8, n)
    temperature = np.array([PLANTED[name] for name in names])
    hazard = 1 / (1 + np.exp(-(BASE + score[:, None])))
    dies = random.random((n, len(BINS))) < hazard
    bin_of = np.where(dies.any(axis=1), dies.argmax(axis=1), len(BINS))
    edges = np.array([0.0, *BINS, 3000.0])
    death = edges[bin_of] + random.random(n) * (edges[bin_of + 1] - edges[bin_of])
    limit = np.where(random.random(n) < 0.25, random.uniform(0, BINS[-1], n), 4000.0)
    predicted = _curves(BASE + (temperature * score)[:, None])
    return predicted, np.minimum(death, limit), death <= limit, names


def test_planted_temperatures_are_found() -> None:
    found = fit_temperatures(*_ordered(6000), by_scenario=True)
    assert found is not None
    for name, planted in PLANTED.items():
        assert found.by_scenario[name].temperature == pytest.approx(planted, rel=0.1)


def test_scaled_curves_are_the_true_ones() -> None:
    predicted, _, _, names = _cohort(6000)
    found = fit_temperatures(*_ordered(6000), by_scenario=True)
    assert found is not None
    score = np.random.default_rng(0).normal(0, 0.8, 6000)
    true = _curves(BASE + score[:, None])
    before, after = np.abs(predicted - true).mean(), np.abs(found.apply(predicted, names) - true).mean()
    assert after < 0.15 * before


def _ordered(n: int, seed: int = 0) -> tuple[np.ndarray, list[float], np.ndarray, np.ndarray, list[str]]:
    predicted, time, event, names = _cohort(n, seed)
    return predicted, BINS, time, event, names


def test_right_curves_keep_their_temperature() -> None:
    predicted, time, event, names = _cohort(6000)
    logits = hazard_logits(predicted)
    temperature = np.array([PLANTED[name] for name in names])[:, None]
    right = _curves(BASE + (logits - BASE) / temperature)
    found = fit_temperatures(right, BINS, time, event, names, by_scenario=False)
    assert found is not None
    assert found.by_scenario == {}
    assert found.common.temperature == pytest.approx(1.0, abs=0.08)
    assert found.common.shift == pytest.approx(0.0, abs=0.05)


def test_a_set_with_few_deaths_takes_the_common_one() -> None:
    predicted, time, event, names = _cohort(2000)
    rare = np.flatnonzero(event)[: LEAST_EVENTS - 1]
    named = ["gene" if k in set(rare.tolist()) else name for k, name in enumerate(names)]
    found = fit_temperatures(predicted, BINS, time, event, named, by_scenario=True)
    assert found is not None
    assert set(found.by_scenario) == set(SCENARIOS)
    one = found.apply(predicted[:1], ["gene"])
    assert one == pytest.approx(found.apply(predicted[:1], ["never seen"]))


def test_too_few_deaths_give_nothing() -> None:
    predicted, time, event, names = _cohort(60)
    keep = np.cumsum(event) < LEAST_EVENTS
    assert fit_temperatures(predicted, BINS, time, event & keep, names, by_scenario=True) is None


def test_the_likelihood_is_that_of_the_curves() -> None:
    """Censored: minus the log of survival; dead: minus the log of the density, with time counted in bins."""
    predicted, time, event, _ = _cohort(200)
    ours = negative_log_likelihood(predicted, BINS, time, event)
    seen = seen_within(BINS, time, event)
    alive = survival_at_own_time(predicted, BINS, time)
    assert ours[~seen] == pytest.approx(-np.log(alive[~seen]), rel=1e-6)
    after = survival_at_own_time(predicted, BINS, time + 1e-4)
    before = survival_at_own_time(predicted, BINS, time - 1e-4)
    width = np.diff([0.0, *BINS])[np.searchsorted(BINS, time[seen])]
    density = ((before - after)[seen] / 2e-4) * width
    assert ours[seen] == pytest.approx(-np.log(density), rel=1e-3)


def test_a_temperature_of_one_changes_nothing_and_order_within_a_set_stays() -> None:
    predicted, _, _, names = _cohort(300)
    centre = tuple(hazard_logits(predicted).mean(axis=0).tolist())
    same = Temperatures(centre, Temperature(1.0, 0.0, 300, 100), {})
    assert same.apply(predicted, names) == pytest.approx(predicted, abs=1e-9)
    flatter = Temperatures(centre, Temperature(2.5, -0.2, 300, 100), {}).apply(predicted, names)
    assert np.array_equal(np.argsort(flatter[:, -1]), np.argsort(predicted[:, -1]))
    assert flatter[:, -1].std() < predicted[:, -1].std()
