"""C-index over pairs of the same site and fold.

Risk scores of models that sites trained alone are not on one scale. Comparing only patients of one site,
scored by one model, is fair to such models and to the others alike.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmfed_common.metrics import Estimate, Measured, combine
from mmfed_common.metrics.estimate import Floats
from mmfed_common.metrics.resampled import Bools, PairRatio
from mmfed_common.metrics.survival import comparable_pairs, dense_ranks


@dataclass(frozen=True)
class PooledPairs:
    """Ordered share of all pairs of several folds together: each pair weighs the same."""

    folds: tuple[PairRatio, ...]

    def __call__(self, counts: Floats) -> Floats:
        """``(resamples, patients of all folds side by side)`` counts → ``(resamples,)``."""
        ordered = np.zeros(len(counts))
        comparable = np.zeros(len(counts))
        start = 0
        for fold in self.folds:
            part = counts[:, start : start + len(fold.ordered)]
            start += len(fold.ordered)
            ordered += np.einsum("rj,rj->r", part @ fold.ordered, part)
            comparable += np.einsum("rj,rj->r", part @ fold.comparable, part)
        return np.where(comparable > 0, ordered / np.where(comparable > 0, comparable, 1.0), np.nan)


def within_site_c(rows: pd.DataFrame, counts: Mapping[Hashable, Floats]) -> Estimate:
    """C-index of one arm over pairs of the same site and fold, with a bootstrap interval.

    Parameters
    ----------
    rows
        Rows of the table of predictions with known survival, sorted by fold.
    counts
        Fold → ``(resamples, patients of the fold in this order)``.
    """
    drawn = [counts[str(fold)] for fold, _ in rows.groupby("fold")]
    pooled = survival_pairs(rows)
    value = float(pooled(np.ones((1, len(rows))))[0])
    measured = Measured(value, pooled, len(rows), int((rows["event"] == 1.0).sum()))
    return combine({"all": measured}, {"all": np.hstack(drawn)})


def survival_pairs(rows: pd.DataFrame) -> PooledPairs:
    """Pairs of the same site and fold, one of whom died before the other was last seen.

    Parameters
    ----------
    rows
        Rows of the table of predictions with known survival, sorted by fold.
    """
    parts = []
    for _, group in rows.groupby("fold"):
        time = group["time_days"].to_numpy(np.float64)
        event = group["event"].to_numpy(np.float64) == 1.0
        ranks = dense_ranks(group["risk_score"].to_numpy(np.float64))
        parts.append(PairRatio.build(ranks, comparable_pairs(time, event) & _same_site(group)))
    return PooledPairs(tuple(parts))


def label_pairs(rows: pd.DataFrame, score: Floats, positive: Bools) -> PooledPairs:
    """Pairs of the same site and fold, one of whom has a label and the other has not.

    Parameters
    ----------
    rows
        Rows of the table of predictions, sorted by fold.
    score, positive
        ``(rows,)`` predicted score of the label, and who has it.
    """
    parts = []
    place = pd.Series(np.arange(len(rows)), index=rows.index)
    for _, group in rows.groupby("fold"):
        at = place[group.index].to_numpy()
        pairs = positive[at][:, None] & ~positive[at][None, :] & _same_site(group)
        parts.append(PairRatio.build(score[at], pairs))
    return PooledPairs(tuple(parts))


def _same_site(rows: pd.DataFrame) -> Bools:
    site = rows["site"].to_numpy()
    same: Bools = site[:, None] == site[None, :]
    return same
