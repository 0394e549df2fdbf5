"""Survival curves given at the upper edges of the time bins: read at any time, and the other way round.

Within a bin the hazard rate is taken as constant, as in :mod:`.survival`. What lies beyond the last edge is
not known: times are read at the last edge, and a patient who was followed further counts as censored there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LEAST_SURVIVAL = 1e-12
LEAST_HAZARD = 1e-9


def cumulative_hazard_at(survival: Floats, edges_days: Sequence[float], time_days: Floats) -> Floats:
    """Cumulative hazard of each patient at given times, in the shape of ``time_days``.

    Parameters
    ----------
    survival
        ``(patients, edges)`` probability of being alive at each edge.
    edges_days
        Upper edges in days, increasing; the curve starts at 1 on day 0.
    time_days
        ``(patients,)`` each patient's own time, or ``(patients, times)``; beyond the last edge the last edge
        is taken.
    """
    edges = np.array([0.0, *edges_days])
    hazard = _cumulative_hazard(survival)
    time = np.clip(time_days, 0.0, edges[-1])
    upper = np.clip(np.searchsorted(edges, time), 1, len(edges) - 1)
    share = (time - edges[upper - 1]) / (edges[upper] - edges[upper - 1])
    rows = np.arange(len(time)).reshape(-1, *([1] * (time.ndim - 1)))
    start, end = hazard[rows, upper - 1], hazard[rows, upper]
    return np.asarray(start + (end - start) * share)


def survival_at_own_time(survival: Floats, edges_days: Sequence[float], time_days: Floats) -> Floats:
    """Predicted probability of being alive at each patient's own time, ``(patients,)``."""
    return np.asarray(np.exp(-cumulative_hazard_at(survival, edges_days, time_days)))


def time_at(survival: Floats, edges_days: Sequence[float], level: float) -> Floats:
    """Days until a curve falls to ``level``, ``(patients,)``; the last edge where it stays above.

    Parameters
    ----------
    level
        Probability of being alive, above 0; from 1 on the answer is day 0.
    """
    edges = np.array([0.0, *edges_days])
    hazard = _cumulative_hazard(survival)
    wanted = max(-np.log(max(level, LEAST_SURVIVAL)), 0.0)
    reached = hazard >= wanted
    upper = np.where(reached.any(axis=1), reached.argmax(axis=1), len(edges) - 1)
    upper = np.maximum(upper, 1)
    rows = np.arange(len(hazard))
    start, end = hazard[rows, upper - 1], hazard[rows, upper]
    rise = end - start
    share = np.where(rise > 0, (wanted - start) / np.where(rise > 0, rise, 1.0), 1.0)
    days = edges[upper - 1] + np.clip(share, 0.0, 1.0) * (edges[upper] - edges[upper - 1])
    return np.asarray(np.where(wanted <= 0, 0.0, days))


def hazard_logits(survival: Floats) -> Floats:
    """Logit of the hazard in each bin, ``(patients, bins)``: what :func:`.survival.survival_curve` undoes."""
    step = np.diff(_cumulative_hazard(survival), axis=1)
    hazard = np.clip(-np.expm1(-step), LEAST_HAZARD, 1.0 - LEAST_HAZARD)
    return np.asarray(np.log(hazard) - np.log1p(-hazard))


def seen_within(edges_days: Sequence[float], time_days: Floats, event: Bools) -> Bools:
    """``(patients,)`` whether death was seen no later than the last edge."""
    return event & (time_days <= edges_days[-1])


def _cumulative_hazard(survival: Floats) -> Floats:
    """``(patients, edges + 1)``, 0 on day 0, never falling."""
    hazard = -np.log(np.clip(survival, LEAST_SURVIVAL, 1.0))
    return np.asarray(np.maximum.accumulate(np.pad(hazard, ((0, 0), (1, 0))), axis=1))
