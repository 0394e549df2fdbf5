"""How many patients live at least as long as a lower bound on their survival time said."""

from __future__ import annotations

import numpy as np

from mmfed_common.metrics.estimate import Floats, Measured, undefined
from mmfed_common.metrics.resampled import Bools, MeanRatio
from mmfed_common.metrics.survival import Censoring


def coverage(bound_days: Floats, time_days: Floats, event: Bools, censoring: Censoring) -> Measured:
    """Share of patients who did not die before their bound, by inverse probability of censoring.

    A death before the bound counts as many times as there were patients like it who were censored before they
    could be seen to die; the weights are those of the training part. Censoring is taken as independent of
    death and of the bound; :func:`coverage_limits` takes nothing.

    Parameters
    ----------
    bound_days, time_days, event
        ``(patients,)``.
    """
    n, events = len(bound_days), int(event.sum())
    if n == 0 or not np.isfinite(bound_days).all():
        return undefined(n, events)
    early = event & (time_days < bound_days)
    kept = 1.0 - np.where(early, censoring.weights(time_days), 0.0)
    return Measured(float(kept.mean()), MeanRatio(kept, np.ones(n)), n, events)


def coverage_limits(bound_days: Floats, time_days: Floats, event: Bools) -> tuple[float, float]:
    """Least and greatest possible share, if all or none of those censored before their bound died by it."""
    before = time_days < bound_days
    return float(1.0 - before.mean()), float(1.0 - (before & event).mean())
