"""How likely what happened was under a predicted survival curve."""

from __future__ import annotations

import numpy as np

from mmfed_common.metrics.estimate import Floats
from mmfed_common.metrics.resampled import Bools

SMALLEST = 1e-6
"""A probability below this counts as this, so that one patient cannot decide a mean."""


def survival_log_loss(survival: Floats, times_days: Floats, time_days: Floats, event: Bools) -> Floats:
    """Negative log-likelihood of each patient in the intervals between some times, ``(patients,)``.

    A death is known to its interval; who is censored survives the intervals that end by the last day seen.
    What happens after the last time does not count. At the edges of a model's bins this is its own
    likelihood (see :func:`mmfed_common.tasks.survival.hazard_loss`).

    Parameters
    ----------
    survival
        ``(patients, times)`` predicted probability of being alive.
    times_days
        ``(times,)`` increasing.
    time_days, event
        ``(patients,)`` follow-up and whether death was seen.
    """
    patients = np.arange(len(time_days))
    alive = np.hstack([np.ones((len(time_days), 1)), survival])
    interval = np.searchsorted(times_days, time_days, side="left")
    died = event & (interval < len(times_days))
    following = np.minimum(interval + 1, len(times_days))
    survived = np.searchsorted(times_days, time_days, side="right")
    chance = np.where(died, alive[patients, interval] - alive[patients, following], alive[patients, survived])
    losses: Floats = -np.log(np.clip(chance, SMALLEST, 1.0))
    return losses
