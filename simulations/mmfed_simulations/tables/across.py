"""One difference over several cohorts: the mean of theirs, every cohort weighing the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmfed_common.metrics import Estimate
from mmfed_common.metrics.estimate import HIGH, LOW


@dataclass(frozen=True)
class Difference:
    """A paired difference in one cohort.

    Attributes
    ----------
    estimate
        With its interval.
    draws
        The difference in each bootstrap resample of the cohort's patients; NaN where it is not defined.
    """

    estimate: Estimate
    draws: tuple[float, ...]


def mean_difference(cohorts: Sequence[Difference]) -> Estimate:
    """Mean over cohorts with its 95 % interval: the cohorts' patients were resampled independently.

    Returns
    -------
    Estimate
        All None where one of the cohorts has no figure; ``n`` and ``events`` are sums.
    """
    found = [one.estimate for one in cohorts]
    n = sum(one.n for one in found)
    events = [one.events for one in found if one.events is not None]
    total = sum(events) if len(events) == len(found) else None
    values = [one.estimate for one in found if one.estimate is not None]
    if not values or len(values) < len(found):
        return Estimate(None, None, None, n, total)
    draws = np.mean(np.array([one.draws for one in cohorts], dtype=np.float64), axis=0)
    known = draws[np.isfinite(draws)]
    if len(known) < len(draws) / 2:
        return Estimate(float(np.mean(values)), None, None, n, total)
    low, high = np.percentile(known, [LOW, HIGH])
    return Estimate(float(np.mean(values)), float(low), float(high), n, total)
