"""Metrics as functions of how often each patient was drawn.

Pair statistics (C-index, AUC) are ratios of two quadratic forms, ``Σ cᵢ cⱼ Aᵢⱼ / Σ cᵢ cⱼ Bᵢⱼ``; means
(Brier score, accuracy, recall) are ratios of two linear forms. Both equal the library's value on the
repeated patients exactly; tests hold them to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmfed_common.metrics.estimate import Floats

Bools = npt.NDArray[np.bool_]


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


@dataclass(frozen=True)
class PairRatio:
    """Share of comparable pairs that are ordered as they should be, ties counting one half.

    Attributes
    ----------
    ordered, comparable
        ``(patients, patients)`` float64: weight of the pair (row: who should score higher; column: the other)
        times its score in {0, ½, 1}, and weight of the pair.
    """

    ordered: Floats
    comparable: Floats

    @staticmethod
    def build(score: Floats, comparable: Bools, row_weight: Floats | None = None) -> PairRatio:
        """Compare scores over ``(patients, patients)`` comparable pairs; weights belong to the row."""
        above = np.where(score[:, None] > score[None, :], 1.0, 0.0)
        above[score[:, None] == score[None, :]] = 0.5
        weight = comparable.astype(np.float64)
        if row_weight is not None:
            weight = weight * row_weight[:, None]
        return PairRatio(above * weight, weight)

    def __call__(self, counts: Floats) -> Floats:
        """``(resamples, patients)`` counts → ``(resamples,)``."""
        numerator = np.einsum("rj,rj->r", counts @ self.ordered, counts)
        denominator = np.einsum("rj,rj->r", counts @ self.comparable, counts)
        return _ratio(numerator, denominator)


@dataclass(frozen=True)
class MeanRatio:
    """Mean of a patient's value over the patients that count for it.

    Attributes
    ----------
    value, weight
        ``(patients,)`` float64.
    """

    value: Floats
    weight: Floats

    def __call__(self, counts: Floats) -> Floats:
        """``(resamples, patients)`` counts → ``(resamples,)``."""
        return _ratio(counts @ (self.value * self.weight), counts @ self.weight)


def mean_of(parts: Sequence[Callable[[Floats], Floats]], counts: Floats) -> Floats:
    """Average several statistics (macro average over classes), leaving out those without a value."""
    rows = np.stack([part(counts) for part in parts])
    known = np.isfinite(rows)
    total: Floats = np.where(known, rows, 0.0).sum(axis=0)
    return total / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
