"""What noisy steps cost, and how much noise a guarantee needs: Opacus' PRV accountant, asked and cached.

The mechanism is always the same: every patient takes part in a step with probability ``sample_rate``, on his
own; what he contributes has length 1 at most; Gaussian noise of standard deviation ``noise_multiplier`` is
added to the sum (Abadi et al., 2016, arXiv:1607.00133). The accountant composes the privacy loss numerically
(Gopi et al., 2021, arXiv:2106.02848) and its upper bound is used, never its estimate. Where it cannot compute
- losses so large that nobody would accept them, or its own numerical checks fail - the bound by Rényi
divergence stands in: it is larger, never smaller.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from mmfed_common.errors import PrivacyError
from mmfed_common.mechanism import Mechanism

ACCOUNTANT = "PRV (Opacus)"
"""Numerical composition of privacy loss random variables (Gopi et al., 2021)."""
MECHANISM = "DP-SGD: clipped gradients, patients drawn at random, Gaussian noise on the sum"
SHARED_MECHANISM = (
    "clipped gradients of all patients, summed over the sites under masks, with Gaussian noise on the sum of "
    "which each site adds a share"
)
UNIT = "one patient"
LARGEST_PRV = 60.0
"""An ε beyond which the PRV accountant takes minutes and says nothing that matters."""
LEAST_NOISE = 0.3
"""The smallest noise multiplier that is ever used: below it even one step has no guarantee worth the name."""
MOST_NOISE = 10_000.0
ORDERS = (*range(2, 64), 80, 96, 128, 192, 256, 512, 1024)
"""Of Rényi divergences; whole ones, because the others take a hundred times as long."""
RELATIVE_STEP = 1e-3
"""Noise multipliers are rounded up to one part in a thousand."""


def composed(mechanisms: Iterable[Mechanism]) -> tuple[Mechanism, ...]:
    """Add up steps of equal mechanisms and sort: one way to write what was spent, whatever the order was."""
    steps: dict[tuple[float, float], int] = {}
    for m in mechanisms:
        key = (m.noise_multiplier, m.sample_rate)
        steps[key] = steps.get(key, 0) + m.steps
    return tuple(Mechanism(*key, count) for key, count in sorted(steps.items()) if count)


def epsilon_of(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """Give the ε that all these steps together cost at ``delta``; 0 for no steps, never below 0.

    Equal to ``opacus.accountants.PRVAccountant`` on the same history, and an upper bound of the truth.

    Raises
    ------
    ValueError
        When a number makes no sense: ``delta`` not between 0 and 1, no noise at all, a rate above 1.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta {delta} is not between 0 and 1")
    history = tuple(m for m in mechanisms if m.steps)
    for mechanism in history:
        _refuse_nonsense(mechanism)
    return _epsilon(history, delta) if history else 0.0


def noise_for(
    epsilon: float, delta: float, rate: float, steps: int, beside: Sequence[Mechanism] = ()
) -> float:
    """Give the least noise multiplier with which ``steps`` steps cost at most ``epsilon``, rounded up.

    Parameters
    ----------
    epsilon, delta
        The guarantee that all steps together must keep.
    rate
        Sample rate of the steps.
    beside
        Other mechanisms over the same patients that the same ``epsilon`` pays for.

    Raises
    ------
    PrivacyError
        ``MMF-307`` when no noise reaches it.
    ValueError
        When an argument makes no sense.
    """
    if not (math.isfinite(epsilon) and epsilon > 0) or steps < 1:
        raise ValueError(f"epsilon {epsilon} over {steps} steps")
    return _noise(epsilon, delta, rate, steps, composed(beside))


@lru_cache(maxsize=512)
def _noise(epsilon: float, delta: float, rate: float, steps: int, beside: tuple[Mechanism, ...]) -> float:
    def history(noise: float) -> tuple[Mechanism, ...]:
        return composed([*beside, Mechanism(noise, rate, steps)])

    high = LEAST_NOISE
    while _renyi(history(high), delta) > epsilon and high < MOST_NOISE:
        high *= 1.05
    if high >= MOST_NOISE or epsilon_of(history(high), delta) > epsilon:
        raise PrivacyError("MMF-307", f"ε = {epsilon:g} at δ = {delta:g} over {steps} steps")
    found = _least(lambda noise: _quick(history(noise), delta), epsilon, high)
    while epsilon_of(history(found), delta) > epsilon:
        found = _rounded_up(found * (1 + RELATIVE_STEP))
    return found


def _least(cost: Callable[[float], float], epsilon: float, enough: float) -> float:
    """Find the least noise whose cost is at most ``epsilon``; ``enough`` is some that is enough.

    The logarithm of the cost is nearly a straight line of that of the noise: the secant goes there in a few
    steps, and halving is left for where it does not. What is returned was seen to be enough.
    """
    low, high = enough, enough
    costs = {enough: cost(enough)}
    while costs[low] <= epsilon:
        if low == LEAST_NOISE:
            return LEAST_NOISE
        high, low = low, max(low / 1.15, LEAST_NOISE)
        costs[low] = cost(low)
    while high > low * (1 + RELATIVE_STEP):
        slope = math.log(costs[high] / costs[low]) / math.log(high / low)
        aim = low * (epsilon / costs[low]) ** (1 / slope) * (1 + RELATIVE_STEP / 4) if slope < 0 else 0.0
        margin = RELATIVE_STEP / 8
        if not low * (1 + margin) < aim < high * (1 - margin):
            aim = math.sqrt(low * high)
        costs[aim] = cost(aim)
        low, high = (low, aim) if costs[aim] <= epsilon else (aim, high)
    return _rounded_up(high)


def _rounded_up(noise: float) -> float:
    """Round to four digits, never down: more noise costs less."""
    scale = 10.0 ** (3 - math.floor(math.log10(noise)))
    return math.ceil(noise * scale) / scale


def _refuse_nonsense(mechanism: Mechanism) -> None:
    noise = mechanism.noise_multiplier
    if not (math.isfinite(noise) and noise > 0 and 0 < mechanism.sample_rate <= 1 and mechanism.steps > 0):
        raise ValueError(f"{mechanism} guarantees nothing")


@lru_cache(maxsize=4096)
def _epsilon(history: tuple[Mechanism, ...], delta: float) -> float:
    from opacus.accountants import PRVAccountant

    return _asked(PRVAccountant(), history, delta)


def _quick(history: tuple[Mechanism, ...], delta: float) -> float:
    """As :func:`_epsilon`, to about 1e-4, for a search that ends with the real one."""
    from opacus.accountants import PRVAccountant
    from opacus.accountants.analysis.prv import Domain

    class Quick(PRVAccountant):  # type: ignore[misc]
        """Finds how far privacy losses reach by whole orders only."""

        def _get_domain(
            self, prvs: object, num_self_compositions: Sequence[int], eps_error: float, delta_error: float
        ) -> Domain:
            reach = max(_renyi(history, delta_error / 4), eps_error) + 3
            width = eps_error / math.sqrt(sum(num_self_compositions) * math.log(12 / delta_error) / 2)
            return Domain.create_aligned(-reach, reach, width)

    return _asked(Quick(), history, delta)


def _asked(accountant: Any, history: tuple[Mechanism, ...], delta: float) -> float:
    renyi = _renyi(history, delta)
    if renyi > LARGEST_PRV:
        return renyi
    accountant.history = [(m.noise_multiplier, m.sample_rate, m.steps) for m in history]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            epsilon = float(accountant.get_epsilon(delta))
    except (RuntimeError, ValueError, ZeroDivisionError, MemoryError):
        return renyi
    return max(epsilon, 0.0) if math.isfinite(epsilon) else renyi


def _renyi(history: tuple[Mechanism, ...], delta: float) -> float:
    from opacus.accountants.analysis import rdp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        total = sum(
            rdp.compute_rdp(
                q=m.sample_rate, noise_multiplier=m.noise_multiplier, steps=m.steps, orders=ORDERS
            )
            for m in history
        )
        epsilon, _ = rdp.get_privacy_spent(orders=ORDERS, rdp=total, delta=delta)
    return float(epsilon)
