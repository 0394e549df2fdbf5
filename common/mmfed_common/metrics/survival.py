"""Survival metrics of one fold, by torchsurv: Harrell's and Uno's C, AUC at a horizon, Brier scores.

Risk scores: higher means an earlier death is expected. Times in days. Two patients are comparable if one died
before the other was last seen; a death and a censoring on the same day are comparable (the death came first),
two deaths on the same day are not: torchsurv, lifelines and scikit-survival agree on this. Equal risk scores
count one half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from lifelines import KaplanMeierFitter
from torchsurv.metrics.auc import Auc
from torchsurv.metrics.brier_score import BrierScore
from torchsurv.metrics.cindex import ConcordanceIndex
from torchsurv.stats.kaplan_meier import KaplanMeierEstimator

from mmfed_common.metrics.estimate import Floats, Measured, undefined
from mmfed_common.metrics.resampled import Bools, PairRatio

LEAST_AT_RISK = 10
"""Brier scores are taken only up to times at which so many training patients were still followed."""


@dataclass(frozen=True)
class Censoring:
    """Follow-up of the training part: its censoring distribution, and its survival.

    Attributes
    ----------
    time_days, event
        ``(training patients,)`` follow-up and whether it ended in death.
    """

    time_days: Floats
    event: Bools

    def weights(self, at_days: Floats) -> Floats:
        """Inverse probability of not yet being censored at each time; 0 where that probability is 0.

        Times beyond the longest training follow-up take the last probability, as torchsurv does.
        """
        if bool(self.event.all()):
            return np.ones(len(at_days))
        if not self.event.any():  # torchsurv refuses to estimate anything without a death
            return np.zeros(len(at_days))
        free = self._censoring_curve.predict(_tensor(at_days)).double().numpy()
        return np.where(free > 0, 1.0 / np.where(free > 0, free, 1.0), 0.0)

    @cached_property
    def _censoring_curve(self) -> KaplanMeierEstimator:
        estimator = KaplanMeierEstimator()
        estimator(torch.from_numpy(self.event), _tensor(self.time_days), censoring_dist=True)
        return estimator

    @cached_property
    def _survival_curve(self) -> KaplanMeierFitter:
        return KaplanMeierFitter().fit(self.time_days, self.event)

    def survival(self, at_days: Floats) -> Floats:
        """Kaplan–Meier survival of the training part at given times, by lifelines."""
        return np.asarray(self._survival_curve.survival_function_at_times(at_days), dtype=np.float64)

    def still_followed(self, at_days: Floats) -> npt.NDArray[np.int64]:
        """How many training patients were followed beyond each time."""
        followed: npt.NDArray[np.int64] = (self.time_days[None, :] > at_days[:, None]).sum(axis=1)
        return followed


def _tensor(values: Floats) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def dense_ranks(score: Floats) -> Floats:
    """Ranks from 0 in which equal scores share one; keeps order and ties, whatever the scale."""
    return np.unique(score, return_inverse=True)[1].astype(np.float64)


def comparable_pairs(time_days: Floats, event: Bools) -> Bools:
    """``(patients, patients)``: the row died before the column was last seen."""
    later = time_days[None, :] > time_days[:, None]
    same_day_alive = (time_days[None, :] == time_days[:, None]) & ~event[None, :]
    pairs: Bools = event[:, None] & (later | same_day_alive)
    return pairs


def _concordance(
    risk_score: Floats, time_days: Floats, event: Bools, weight: Floats | None, limit_days: float | None
) -> Measured:
    # float32 days, as torchsurv sees them, decide what is tied; ranks keep order and ties of scores exact.
    time_days = time_days.astype(np.float32).astype(np.float64)
    pairs = comparable_pairs(time_days, event)
    row_weight = np.ones(len(time_days)) if weight is None else weight**2
    if limit_days is not None:
        row_weight = np.where(time_days < limit_days, row_weight, 0.0)
    if not (pairs * row_weight[:, None]).any() or not np.isfinite(risk_score).all():
        return undefined(len(time_days), int(event.sum()))
    ranks = dense_ranks(risk_score)
    value = ConcordanceIndex()(
        _tensor(ranks),
        torch.from_numpy(event),
        _tensor(time_days),
        weight=None if weight is None else _tensor(weight),
        tmax=None if limit_days is None else torch.tensor(limit_days),
        instate=False,
    )
    resampled = PairRatio.build(ranks, pairs, row_weight)
    return Measured(float(value), resampled, len(time_days), int(event.sum()))


def harrell_c(risk_score: Floats, time_days: Floats, event: Bools) -> Measured:
    """Harrell's concordance index (Harrell 1996).

    Parameters
    ----------
    risk_score, time_days, event
        ``(patients,)``.
    """
    return _concordance(risk_score, time_days, event, None, None)


def uno_c(
    risk_score: Floats, time_days: Floats, event: Bools, censoring: Censoring, limit_days: float
) -> Measured:
    """Uno's concordance index (Uno 2011), weights from the training part, deaths before ``limit_days``.

    Without a limit a few late deaths, whose weights are largest, would decide the value.
    """
    return _concordance(risk_score, time_days, event, censoring.weights(time_days), limit_days)


def auc_at(
    risk_score: Floats, time_days: Floats, event: Bools, censoring: Censoring, horizon_days: float
) -> Measured:
    """Cumulative/dynamic AUC at one horizon: died by then against still followed (Uno 2007)."""
    case = event & (time_days <= horizon_days)
    control = time_days > horizon_days
    weight = censoring.weights(time_days)
    n, events = len(time_days), int(case.sum())
    if not (case & (weight > 0)).any() or not control.any() or time_days.min() > horizon_days:
        return undefined(n, events)
    ranks = dense_ranks(risk_score)
    at = np.array([horizon_days])
    value = Auc()(
        _tensor(ranks),
        torch.from_numpy(event),
        _tensor(time_days),
        auc_type="cumulative",
        weight=_tensor(weight),
        new_time=_tensor(at),
        weight_new_time=_tensor(censoring.weights(at)),
        instate=False,
    )
    resampled = PairRatio.build(ranks, case[:, None] & control[None, :], weight)
    return Measured(float(value.squeeze()), resampled, n, events)


def evaluation_times(bins_days: Sequence[float], horizons_days: Sequence[float]) -> Floats:
    """Times at which survival is reported and scored: bin edges up to the last horizon, and the horizons."""
    last = max(horizons_days)
    return np.array(
        sorted({float(edge) for edge in bins_days if edge <= last} | set(map(float, horizons_days)))
    )


def brier_scores(
    survival: Floats, times_days: Floats, time_days: Floats, event: Bools, censoring: Censoring
) -> tuple[Floats, Floats]:
    """Brier score at each time, with weights of the training part (Graf 1999).

    Parameters
    ----------
    survival
        ``(patients, times)`` predicted probability of being alive.

    Returns
    -------
    ``(times,)`` scores and ``(patients, times)`` what each patient adds to them
    """
    score = BrierScore()
    values = score(
        torch.from_numpy(survival).double(),
        torch.from_numpy(event),
        _tensor(time_days),
        _tensor(times_days),
        torch.from_numpy(censoring.weights(time_days)),
        torch.from_numpy(censoring.weights(times_days)),
    )
    return values.double().numpy(), score.residuals.double().numpy()


@dataclass(frozen=True)
class _Integral:
    """Integral over time of a patient's part, averaged over patients; relative to another if given."""

    own: Floats
    reference: Floats | None = None

    def __call__(self, counts: Floats) -> Floats:
        own: Floats = counts @ self.own / counts.sum(axis=1)
        if self.reference is None:
            return own
        other = counts @ self.reference / counts.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(other > 0, 1.0 - own / other, np.nan)


def integrated_brier(
    survival: Floats, times_days: Floats, time_days: Floats, event: Bools, censoring: Censoring
) -> tuple[Measured, Measured]:
    """Integrated Brier score, and one minus its ratio to that of Kaplan–Meier of the training part.

    The integral runs over those of ``times_days`` at which at least :data:`LEAST_AT_RISK` training patients
    were still followed, by the trapezoid rule, divided by its length. The second figure is 0 for a model that
    is no better than giving everybody the training part's Kaplan–Meier curve, and 1 for a perfect one. Both
    are undefined where nobody died.
    """
    n, events = len(time_days), int(event.sum())
    keep = censoring.still_followed(times_days) >= LEAST_AT_RISK
    if keep.sum() < 2 or not events or not censoring.event.any() or not np.isfinite(survival).all():
        return undefined(n, events), undefined(n, events)
    times = times_days[keep]
    _, own = brier_scores(survival[:, keep], times, time_days, event, censoring)
    flat = np.broadcast_to(censoring.survival(times), (n, len(times)))
    _, reference = brier_scores(flat.copy(), times, time_days, event, censoring)
    length = times[-1] - times[0]
    own_part = np.trapezoid(own, times, axis=1) / length
    reference_part = np.trapezoid(reference, times, axis=1) / length
    absolute = Measured(float(own_part.mean()), _Integral(own_part), n, events)
    ratio = 1.0 - own_part.mean() / reference_part.mean() if reference_part.mean() > 0 else math.nan
    return absolute, Measured(float(ratio), _Integral(own_part, reference_part), n, events)
