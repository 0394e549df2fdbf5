"""How well an attack tells members from others: AUC and TPR at 1 % FPR, with bootstrap intervals.

Figures stand on pairs (model, patient): a patient may be a member for one model and not for another. The
bootstrap draws patients, each with all of its pairs, because a patient's pairs are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmfed_common.metrics.estimate import Floats, bootstrap_counts

Bools = npt.NDArray[np.bool_]
LOW_FPR = 0.01
RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % percentile interval over resamples of the patients."""

    estimate: float
    low: float
    high: float

    @staticmethod
    def of(values: Floats) -> Interval:
        """Take the first value as the estimate and the others, where they are defined, as resamples."""
        low, high = np.percentile(values[1:][np.isfinite(values[1:])], [2.5, 97.5])
        return Interval(float(values[0]), float(low), float(high))

    def as_dict(self) -> dict[str, float]:
        """Plain form for ``attack.json``."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class AttackFigures:
    """What an attack achieved.

    Attributes
    ----------
    auc
        Chance that a member scores above a non-member; 0.5 is guessing.
    tpr
        Share of members found while at most 1 % of non-members are wrongly accused (Carlini et al., 2022).
    members, others
        Pairs (model, patient) of either kind.
    """

    auc: Interval
    tpr: Interval
    members: int
    others: int


def attack_figures(score: Floats, member: Bools, seed: int, resamples: int = RESAMPLES) -> AttackFigures:
    """Measure an attack.

    Parameters
    ----------
    score
        ``(models, patients)`` or ``(patients,)``: higher means "member"; NaN where there is no score.
    member
        The same shape: whether that model was trained on that patient.
    seed
        Of the resamples.

    Raises
    ------
    ValueError
        When one of the two kinds is missing.
    """
    score, member = np.atleast_2d(score), np.atleast_2d(member)
    patient = np.broadcast_to(np.arange(score.shape[1]), score.shape)
    known = np.isfinite(score)
    score, member, patient = score[known], member[known], patient[known]
    if not member.any() or member.all():
        raise ValueError("an attack is measured on members and on others")
    counts = bootstrap_counts(int(patient.max()) + 1, resamples, seed, "attack")
    weights = np.concatenate([np.ones((1, len(score))), counts[:, patient]])
    auc, tpr = _curve(score, member, weights)
    return AttackFigures(Interval.of(auc), Interval.of(tpr), int(member.sum()), int((~member).sum()))


def weighted_auc(score: Floats, member: Bools, weights: Floats) -> Floats:
    """AUC for each row of ``(resamples, patients)`` weights; NaN where a resample has one kind only."""
    return _curve(score, member, weights)[0]


def _curve(score: Floats, member: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """AUC and TPR at 1 % FPR for each row of weights; pairs of equal score come and go together."""
    order = np.argsort(-score, kind="stable")
    last_of_its_score = np.append(np.diff(score[order]) != 0, True)
    weights, member = weights[:, order], member[order]
    hits = np.cumsum(weights * member, axis=1)[:, last_of_its_score]
    alarms = np.cumsum(weights * ~member, axis=1)[:, last_of_its_score]
    with np.errstate(invalid="ignore", divide="ignore"):
        hit_rate, alarm_rate = hits / hits[:, -1:], alarms / alarms[:, -1:]
    start = np.zeros((len(weights), 1))
    y, x = np.hstack([start, hit_rate]), np.hstack([start, alarm_rate])
    auc = (np.diff(x, axis=1) * (y[:, 1:] + y[:, :-1]) / 2).sum(axis=1)
    tpr = np.where(x <= LOW_FPR, y, 0.0).max(axis=1)
    return auc, np.where(np.isfinite(auc), tpr, np.nan)
