"""A metric with its interval: bootstrap over patients, within folds.

A fold's patients are drawn again with replacement; how often each was drawn is a row of counts. Every
metric here can be written as a function of such counts (see :mod:`.resampled`), so that thousands of
resamples cost a few matrix products, while the estimate itself stays the library's own value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmfed_common.randomness import numpy_generator

Floats = npt.NDArray[np.float64]
Resampled = Callable[[Floats], Floats]

LOW, HIGH = 2.5, 97.5
LEAST_DEFINED = 0.5
"""An interval is given only if at least this part of the resamples has a value."""


@dataclass(frozen=True)
class Estimate:
    """One figure of a result table.

    Attributes
    ----------
    estimate
        The value on the patients as they are; None where it is not defined (for example no event).
    low, high
        95 % percentile interval over resamples of the patients; None where it is not defined.
    n
        Patients scored.
    events
        Events among them (deaths for survival, positive labels for toxicity); None for response.
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    events: int | None

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain form for ``results.json``."""
        return {
            "estimate": self.estimate,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "events": self.events,
        }


@dataclass(frozen=True)
class Measured:
    """A metric in one fold.

    Attributes
    ----------
    value
        The library's value; NaN where it is not defined.
    resampled
        ``(resamples, patients)`` counts → ``(resamples,)`` values, the same metric on the patients repeated
        as often as counted; NaN where a resample leaves it undefined.
    n, events
        Patients and events; see :class:`Estimate`.
    """

    value: float
    resampled: Resampled
    n: int
    events: int | None

    @property
    def defined(self) -> bool:
        """Whether the metric has a value."""
        return math.isfinite(self.value)


def undefined(n: int, events: int | None) -> Measured:
    """Stand for a metric that these patients do not allow."""
    return Measured(math.nan, lambda counts: np.full(len(counts), math.nan), n, events)


def bootstrap_counts(n: int, resamples: int, seed: int, *purpose: str | int) -> Floats:
    """Draw how often each patient stands in each resample.

    The same seed, purpose and number of patients give the same counts, so that every arm is resampled alike.

    Returns
    -------
    (resamples, patients) float64, each row summing to ``patients``
    """
    generator = numpy_generator(seed, "bootstrap", *purpose)
    return generator.multinomial(n, np.full(n, 1.0 / n), size=resamples).astype(np.float64)


def _mean_over_folds(
    measured: Mapping[Hashable, Measured], counts: Mapping[Hashable, Floats], folds: list[Hashable]
) -> tuple[float, Floats]:
    value = float(np.mean([measured[fold].value for fold in folds]))
    rows = np.stack([measured[fold].resampled(counts[fold]) for fold in folds])
    known = np.isfinite(rows)
    total: Floats = np.where(known, rows, 0.0).sum(axis=0)
    return value, total / np.where(known.any(axis=0), known.sum(axis=0), np.nan)


def _interval(values: Floats) -> tuple[float | None, float | None]:
    known = values[np.isfinite(values)]
    if len(known) < LEAST_DEFINED * len(values):
        return None, None
    low, high = np.percentile(known, [LOW, HIGH])
    return float(low), float(high)


def combine(measured: Mapping[Hashable, Measured], counts: Mapping[Hashable, Floats]) -> Estimate:
    """Mean over folds of the metric within each fold, with its bootstrap interval.

    Folds are weighted alike. Risk scores of different folds come from different models and are not on one
    scale, so patients of different folds are never compared with each other. Folds in which the metric is not
    defined are left out, and their patients are not counted.

    Parameters
    ----------
    measured
        Fold → what was measured in it.
    counts
        Fold → ``(resamples, patients)`` from :func:`bootstrap_counts`.
    """
    folds = [fold for fold, one in measured.items() if one.defined]
    events = [measured[fold].events for fold in folds]
    known = [e for e in events if e is not None]
    total_events = sum(known) if len(known) == len(events) else None
    if not folds:
        none = any(one.events is None for one in measured.values())
        return Estimate(None, None, None, 0, None if none else 0)
    value, resamples = _mean_over_folds(measured, counts, folds)
    low, high = _interval(resamples)
    return Estimate(value, low, high, sum(measured[fold].n for fold in folds), total_events)


def paired_difference(
    first: Mapping[Hashable, Measured],
    second: Mapping[Hashable, Measured],
    counts: Mapping[Hashable, Floats],
) -> Estimate:
    """First minus second, on identical patients and identical resamples.

    The interval is for these fitted models: it holds the sampling of test patients, not that of training.

    Raises
    ------
    ValueError
        If the two were measured on different numbers of patients.
    """
    figure = paired_figure(first, second, counts)
    if not figure.defined:
        return Estimate(None, None, None, 0, None)
    low, high = _interval(figure.resampled(np.zeros((0, 0))))
    return Estimate(figure.value, low, high, figure.n, figure.events)


def paired_figure(
    first: Mapping[Hashable, Measured],
    second: Mapping[Hashable, Measured],
    counts: Mapping[Hashable, Floats],
) -> Measured:
    """First minus second as one figure over all folds; see :func:`paired_difference`.

    Its ``resampled`` gives the differences of the resamples in ``counts``, whatever it is called with: a
    figure over several cohorts is the mean of such figures.
    """
    folds = [f for f, one in first.items() if f in second and one.defined and second[f].defined]
    if any(first[f].n != second[f].n for f in folds):
        raise ValueError("a paired difference needs the same patients on both sides")
    if not folds:
        return undefined(0, None)
    one, one_resampled = _mean_over_folds(first, counts, folds)
    two, two_resampled = _mean_over_folds(second, counts, folds)
    difference: Floats = one_resampled - two_resampled
    events = [first[f].events for f in folds]
    known = [e for e in events if e is not None]
    total = sum(known) if len(known) == len(events) else None
    return Measured(one - two, lambda _: difference, sum(first[f].n for f in folds), total)
