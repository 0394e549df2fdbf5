"""A lower bound on each patient's survival time that holds for 90 % of patients, whatever the model is worth.

Split conformal prediction with right censoring. The score of a patient is the predicted probability of death
by his day of death; its lower 10 % point among the calibration patients, with the finite-sample correction
for the one patient to come, says how far down a curve the bound is read. The calibration patients' death
before that point is not always seen: it is estimated by inverse probability of censoring, augmented by what
the curve itself says about the censored (Robins & Rotnitzky 1992; in conformal survival analysis Gui et al.,
Biometrika 2024, and Sesia & Svetnik 2024). Candès, Lei & Ren (JRSS B 2023) treat the case in which every
censoring time is known.

It assumes that calibration patients and patients to come are exchangeable, and either that censoring is
independent of death and of what the model knows, or that it is independent of death given what the model
knows and the curves are right. One of the two is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mmfed_common.tasks.curves import Bools, Floats, cumulative_hazard_at, time_at

LEVEL = 0.9
ROUNDING = 1e-9
MOST_DAYS = 400
"""Censoring is followed on so many days at most, so that large cohorts fit into memory."""
LEAST_FOLLOWED = 10
"""No bound goes beyond the day after which fewer calibration patients than this were still followed."""


@dataclass(frozen=True)
class LowerBound:
    """How bounds are read off curves.

    Attributes
    ----------
    level
        Share of patients who live at least as long as their bound says.
    death_probability
        A patient's bound is the day on which his predicted probability of death reaches this. With curves
        that are right it is about ``1 − level``.
    longest_days
        The bound of a patient whose curve reaches it later, or never: "at least so long".
    n, events
        Calibration patients, and deaths among them.
    """

    level: float
    death_probability: float
    longest_days: float
    n: int
    events: int

    def days(self, survival: Floats, edges_days: Sequence[float]) -> Floats:
        """Bounds in days, ``(patients,)``, of curves ``(patients, edges)`` at the bins' upper edges."""
        reached = time_at(survival, edges_days, 1.0 - self.death_probability)
        return np.asarray(np.minimum(reached, self.longest_days))

    def as_dict(self) -> dict[str, Any]:
        """Plain form for ``results.json`` and the bundle."""
        return asdict(self)


def fit_lower_bound(
    survival: Floats, edges_days: Sequence[float], time_days: Floats, event: Bools, level: float = LEVEL
) -> LowerBound | None:
    """Find how far down the curves a bound of the wanted level is read.

    Parameters
    ----------
    survival
        ``(patients, edges)`` predicted for calibration patients by models that did not train on them.
    edges_days
        Upper edges of the bins in days.
    time_days, event
        ``(patients,)`` follow-up and whether it ended in death.

    Returns
    -------
    None where too few patients were followed to say anything.
    """
    time_days = _on_few_days(time_days, event)
    followed = np.sort(time_days)
    if len(followed) <= LEAST_FOLLOWED:
        return None
    longest = min(float(followed[-LEAST_FOLLOWED - 1]), float(edges_days[-1]))
    early = _EarlyDeaths(survival, edges_days, time_days, event, longest)
    n, wanted = len(time_days), 1.0 - level + ROUNDING
    candidates = np.unique(early.score[early.died])
    first, last = 0, len(candidates)
    while first < last:
        middle = (first + last) // 2
        if (n * early.share(float(candidates[middle])) + 1.0) / (n + 1.0) <= wanted:
            first = middle + 1
        else:
            last = middle
    point = float(candidates[first - 1]) if first else 0.0
    return LowerBound(level, point, longest, n, int(event.sum()))


def _on_few_days(time_days: Floats, event: Bools) -> Floats:
    """Move censoring times back to the last of :data:`MOST_DAYS` days, where there are more."""
    days = np.unique(time_days[~event])
    if len(days) <= MOST_DAYS:
        return time_days
    kept = np.unique(np.quantile(days, np.linspace(0.0, 1.0, MOST_DAYS), method="lower"))
    earlier = kept[np.clip(np.searchsorted(kept, time_days, side="right") - 1, 0, None)]
    return np.asarray(np.where(event, time_days, np.minimum(earlier, time_days)))


class _EarlyDeaths:
    """Share of patients who die before their curve has come to a point, and before the longest day."""

    def __init__(
        self, survival: Floats, edges_days: Sequence[float], time: Floats, event: Bools, longest: float
    ) -> None:
        self.died = event & (time < longest)
        self.score = -np.expm1(-cumulative_hazard_at(survival, edges_days, time))
        most = np.full(len(time), longest)
        self.most = -np.expm1(-cumulative_hazard_at(survival, edges_days, most))
        censored = ~event & (time < longest)
        days = np.unique(time[censored])
        leaves = censored[:, None] & (time[:, None] == days)
        # Who dies on the day of a censoring died first, and was not at risk of it.
        at_risk = (time[:, None] > days) | leaves
        rate = leaves.sum(axis=0) / at_risk.sum(axis=0)
        free = np.cumprod(1.0 - rate)
        before = np.concatenate([[1.0], free])[np.searchsorted(days, time, side="left")]
        self.weight = np.where(self.died, 1.0 / before, 0.0)
        grid = np.broadcast_to(days, (len(time), len(days)))
        self.passed = -np.expm1(-cumulative_hazard_at(survival, edges_days, grid))
        left = np.clip(1.0 - self.passed, 1e-12, None)
        self.surprise = (leaves - at_risk * rate) / free / left

    def share(self, point: float) -> float:
        """Estimated share of patients who die before a predicted probability of death of ``point``."""
        seen = self.weight * (self.score < point)
        still = np.clip(np.minimum(point, self.most)[:, None] - self.passed, 0.0, None)
        return float((seen + (still * self.surprise).sum(axis=1)).mean())
