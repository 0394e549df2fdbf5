"""The account of privacy: equal to Opacus, close to an independent one, never below the truth."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from mmfed_common.errors import PrivacyError
from mmfed_common.privacy import Mechanism, composed, epsilon_of, noise_for
from mmfed_common.privacy.accounting import LARGEST_PRV, LEAST_NOISE, _renyi


def random_schedule(generator: np.random.Generator) -> tuple[list[Mechanism], float]:
    """Up to four mechanisms in turn, as studies of a site may follow one another."""
    parts = [
        Mechanism(
            float(np.round(np.exp(generator.uniform(np.log(0.8), np.log(12))), 3)),
            float(np.round(np.exp(generator.uniform(np.log(0.005), 0)), 4)),
            int(np.exp(generator.uniform(0, np.log(300)))),
        )
        for _ in range(generator.integers(1, 5))
    ]
    return parts, float(10 ** generator.uniform(-6, -2))


def opacus_epsilon(parts: list[Mechanism], delta: float) -> float:
    """Opacus' accountant, one step after the other."""
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    for part in parts:
        for _ in range(part.steps):
            accountant.step(noise_multiplier=part.noise_multiplier, sample_rate=part.sample_rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


def google_epsilon(parts: list[Mechanism], delta: float) -> float:
    """Google's accountant, by privacy loss distributions."""
    dp = pytest.importorskip("dp_accounting", reason="the extra `dev` has dp-accounting")
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant()
    for part in parts:
        gaussian = dp.GaussianDpEvent(part.noise_multiplier)
        accountant.compose(dp.PoissonSampledDpEvent(part.sample_rate, gaussian), part.steps)
    return float(accountant.get_epsilon(delta))


def comparable_schedules(seed: int) -> Iterator[tuple[list[Mechanism], float]]:
    """Random schedules and δ, without end; only those that the accountant can compute."""
    generator = np.random.default_rng(seed)
    while True:
        parts, delta = random_schedule(generator)
        if _renyi(tuple(parts), delta) <= LARGEST_PRV:
            yield parts, delta


@pytest.mark.parametrize("count", [5, pytest.param(1000, marks=[pytest.mark.e2e, pytest.mark.timeout(7200)])])
def test_epsilon_is_that_of_opacus(count: int) -> None:
    for parts, delta in islice(comparable_schedules(1), count):
        assert epsilon_of(parts, delta) == pytest.approx(opacus_epsilon(parts, delta), abs=1e-6)


@pytest.mark.parametrize(
    ("parts", "delta"),
    [
        ([Mechanism(1.14, 0.25, 100)], 1e-3),
        ([Mechanism(2.5, 1.0, 20)], 1e-5),
        ([Mechanism(1.0, 0.02, 1500)], 1e-5),
        ([Mechanism(1.9, 1.0, 1), Mechanism(2.05, 0.25, 100)], 1e-3),
        ([Mechanism(1.3, 0.1, 100), Mechanism(4.0, 0.5, 50), Mechanism(2.0, 1.0, 3)], 1e-4),
    ],
)
def test_epsilon_is_that_of_an_independent_accountant(parts: list[Mechanism], delta: float) -> None:
    assert epsilon_of(parts, delta) == pytest.approx(google_epsilon(parts, delta), rel=0.02)


@pytest.mark.e2e
@pytest.mark.timeout(3600)
def test_epsilon_is_that_of_an_independent_accountant_on_random_schedules() -> None:
    """Opacus adds .01 to its estimate, which is more than 2 % of an ε below one half."""
    for parts, delta in islice(comparable_schedules(77), 100):
        assert epsilon_of(parts, delta) == pytest.approx(google_epsilon(parts, delta), rel=0.02, abs=0.012)


def test_all_patients_in_every_step_is_the_gaussian_mechanism() -> None:
    """Balle and Wang, 2018, arXiv:1805.06530, theorem 8: the exact ε of k releases with noise σ."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    noise, steps, delta = 6.0, 30, 1e-3
    mu = math.sqrt(steps) / noise

    def excess(epsilon: float) -> float:
        return float(
            norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu) - delta
        )

    exact = brentq(excess, 0.01, 50)
    found = epsilon_of([Mechanism(noise, 1.0, steps)], delta)
    assert exact <= found <= exact + 0.02


def test_nothing_costs_nothing_and_order_does_not_matter() -> None:
    first, second = Mechanism(2.0, 0.1, 30), Mechanism(1.5, 0.2, 10)
    assert epsilon_of([], 1e-5) == 0.0
    assert epsilon_of([Mechanism(2.0, 0.1, 0)], 1e-5) == 0.0
    assert composed([first, second, first]) == composed([first, first, second])
    assert composed([first, second, first]) == (second, Mechanism(2.0, 0.1, 60))


@pytest.mark.parametrize("mechanism", [(0.0, 0.5, 1), (1.0, 0.0, 1), (1.0, 1.5, 1), (math.nan, 0.5, 1)])
def test_what_guarantees_nothing_is_no_mechanism(mechanism: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="guarantees nothing"):
        epsilon_of([Mechanism(*mechanism)], 1e-5)
    with pytest.raises(ValueError, match="delta"):
        epsilon_of([Mechanism(1.0, 0.5, 1)], 1.0)


@pytest.mark.parametrize(
    ("patients", "epsilon", "noise"),
    [(40, 1, 4.33), (40, 3, 2.05), (40, 8, 1.14), (250, 1, 5.94), (250, 3, 2.55), (250, 8, 1.32)],
)
def test_least_noise(patients: int, epsilon: float, noise: float) -> None:
    """Noise of 100 steps at rate .25 and δ = n^-1.1, as measured with Opacus' own search."""
    delta = patients**-1.1
    found = noise_for(epsilon, delta, 0.25, 100)
    assert found == pytest.approx(noise, rel=0.01)
    assert epsilon_of([Mechanism(found, 0.25, 100)], delta) <= epsilon
    assert epsilon_of([Mechanism(found * 0.995, 0.25, 100)], delta) > epsilon * 0.999


def test_noise_leaves_room_for_what_is_beside() -> None:
    beside = Mechanism(noise_for(1.0, 1e-3, 1.0, 1), 1.0, 1)
    alone, together = noise_for(3.0, 1e-3, 0.25, 40), noise_for(3.0, 1e-3, 0.25, 40, [beside])
    assert together > alone
    assert epsilon_of(composed([beside, Mechanism(together, 0.25, 40)]), 1e-3) <= 3.0


def test_noise_has_a_floor_and_an_end() -> None:
    assert noise_for(1000.0, 1e-3, 0.2, 10) == LEAST_NOISE
    with pytest.raises(PrivacyError) as error:
        noise_for(0.001, 1e-3, 0.2, 10)
    assert error.value.code == "MMF-307"
    with pytest.raises(ValueError, match="epsilon"):
        noise_for(0.0, 1e-3, 0.2, 10)
