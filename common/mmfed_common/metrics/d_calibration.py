"""Calibration of whole survival curves: D-calibration, Cox–Snell residuals, deaths over all of follow-up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from mmfed_common.metrics.estimate import Floats
from mmfed_common.metrics.resampled import Bools

LEVEL = 0.05
"""A fold is rejected when its p-value is below this."""
INTERVALS = 10
LEAST_EXPECTED = 5.0
"""Intervals of Cox–Snell residuals are joined until so many deaths are expected in each."""


@dataclass(frozen=True)
class CalibrationTest:
    """A chi-squared test of predicted curves.

    Attributes
    ----------
    statistic, freedom, p
        Chi-squared, its degrees of freedom, and the p-value under curves that are right.
    n, events
        Patients and deaths.
    """

    statistic: float
    freedom: int
    p: float
    n: int
    events: int

    @property
    def rejected(self) -> bool:
        """Whether the curves are refused at :data:`LEVEL`."""
        return self.p < LEVEL

    def as_dict(self) -> dict[str, Any]:
        """Plain form for ``results.json``."""
        return {**asdict(self), "rejected": self.rejected}


def d_calibration_shares(own_survival: Floats, event: Bools, intervals: int = INTERVALS) -> Floats:
    """How many patients fall into each tenth of their own curve, ``(intervals,)``, lowest survival first.

    A death counts in the tenth that holds the survival predicted at the day of death. A censored patient is
    spread evenly over what is left of the curve at the day of censoring (Haider et al., JMLR 2020).

    Parameters
    ----------
    own_survival
        ``(patients,)`` predicted probability of being alive at the patient's own last day.
    event
        ``(patients,)`` whether that day was the day of death.
    """
    edges = np.linspace(0.0, 1.0, intervals + 1)
    own = np.clip(own_survival, 1e-12, 1.0)
    died = np.histogram(own[event], bins=edges)[0].astype(np.float64)
    left = own[~event, None]
    overlap = np.clip(np.minimum(left, edges[None, 1:]) - edges[None, :-1], 0.0, None)
    return np.asarray(died + (overlap / left).sum(axis=0))


def d_calibration(own_survival: Floats, event: Bools, intervals: int = INTERVALS) -> CalibrationTest:
    """D-calibration of Haider et al. (JMLR 2020): each tenth of the curves holds a tenth of the patients.

    Without censoring p is uniform under right curves. Censored patients are spread by the very curves that
    are tested, so that with much censoring the test rejects less often than it may: see :func:`residual_test`
    for one whose level holds.

    Parameters
    ----------
    own_survival, event
        As for :func:`d_calibration_shares`.
    """
    shares = d_calibration_shares(own_survival, event, intervals)
    n = len(own_survival)
    expected = n / intervals
    statistic = float(((shares - expected) ** 2 / expected).sum()) if n else 0.0
    p = float(stats.chi2.sf(statistic, intervals - 1))
    return CalibrationTest(statistic, intervals - 1, p, n, int(event.sum()))


def residual_test(cumulative_hazard: Floats, event: Bools, intervals: int = INTERVALS) -> CalibrationTest:
    """Test Cox–Snell residuals: under right curves they are unit exponential, censored as the patients are.

    Deaths that fall into an interval of the residual are compared with the hazard that the patients spent in
    it; the differences are martingale increments, so that censoring that is independent given the curves does
    not disturb the level (Hjort, Ann. Statist. 1990; Akritas, JASA 1988). Intervals are the tenths of the
    exponential, joined until :data:`LEAST_EXPECTED` deaths are expected in each.

    Parameters
    ----------
    cumulative_hazard
        ``(patients,)`` predicted, at the patient's own last day.
    event
        ``(patients,)`` whether that day was the day of death.
    """
    edges = np.append(-np.log1p(-np.arange(intervals) / intervals), np.inf)
    spent = np.clip(np.minimum(cumulative_hazard[:, None], edges[1:]) - edges[:-1], 0.0, None).sum(axis=0)
    died = np.histogram(cumulative_hazard[event], bins=edges)[0].astype(np.float64)
    expected, observed = _joined(spent, died)
    statistic = float(((observed - expected) ** 2 / expected).sum())
    freedom = len(expected)
    p = float(stats.chi2.sf(statistic, freedom)) if freedom else 1.0
    return CalibrationTest(statistic, freedom, p, len(cumulative_hazard), int(event.sum()))


def _joined(expected: Floats, observed: Floats) -> tuple[Floats, Floats]:
    """Join neighbours, from short residuals on, until enough is expected in each; the rest joins the last."""
    totals: list[list[float]] = []
    waiting = [0.0, 0.0]
    for one, other in zip(expected, observed, strict=True):
        waiting = [waiting[0] + float(one), waiting[1] + float(other)]
        if waiting[0] >= LEAST_EXPECTED:
            totals.append(waiting)
            waiting = [0.0, 0.0]
    if waiting[0] > 0 and totals:
        totals[-1] = [totals[-1][0] + waiting[0], totals[-1][1] + waiting[1]]
    elif waiting[0] > 0:
        totals.append(waiting)
    joined: npt.NDArray[np.float64] = np.array(totals).reshape(-1, 2)
    return joined[:, 0], joined[:, 1]


def deaths_over_follow_up(cumulative_hazard: Floats, event: Bools) -> dict[str, float | int | None]:
    """Deaths seen against deaths expected while the patients were followed, with an exact Poisson interval.

    Expected is the sum of the predicted cumulative hazards at each patient's last day (Breslow 1975; Crowson,
    Atkinson & Therneau 2016): no patient has to be followed to a horizon.
    """
    observed, expected = int(event.sum()), float(cumulative_hazard.sum())
    if expected <= 0:
        return {"observed": observed, "expected": expected, "ratio": None, "low": None, "high": None}
    low = float(stats.chi2.ppf(0.025, 2 * observed)) / 2 if observed else 0.0
    high = float(stats.chi2.ppf(0.975, 2 * (observed + 1))) / 2
    return {
        "observed": observed,
        "expected": expected,
        "ratio": observed / expected,
        "low": low / expected,
        "high": high / expected,
    }
