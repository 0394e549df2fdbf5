"""Metrics of treatment response (classes) and toxicity (labels) in one fold, by torchmetrics."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.functional.classification import binary_auroc, multiclass_accuracy

from mmfed_common.metrics.estimate import Floats, Measured, undefined
from mmfed_common.metrics.resampled import Bools, MeanRatio, PairRatio, mean_of


def _macro(parts: list[PairRatio] | list[MeanRatio]) -> Callable[[Floats], Floats]:
    return partial(mean_of, parts)


def _auroc(score: Floats, positive: Bools) -> tuple[float, PairRatio] | None:
    """AUROC of one label; None unless both kinds of patients are there."""
    if positive.all() or not positive.any():
        return None
    # thresholds=None: exact. Ranks, because torchmetrics squashes scores outside [0, 1].
    order = np.unique(score, return_inverse=True)[1].astype(np.float64) / max(len(score), 1)
    value = binary_auroc(torch.from_numpy(order), torch.from_numpy(positive).long(), thresholds=None)
    return float(value), PairRatio.build(score, positive[:, None] & ~positive[None, :])


def measure_response(probability: Floats, truth: npt.NDArray[np.int64]) -> dict[str, Measured]:
    """Accuracy, balanced accuracy (macro recall) and one-against-rest AUROC (macro).

    Parameters
    ----------
    probability
        ``(patients, classes)``.
    truth
        ``(patients,)`` class index; every patient's response is known.

    Notes
    -----
    Macro averages run over the classes that occur among these patients (for AUROC: and do not make up all of
    them); a class that nobody has can be neither recalled nor ranked.
    """
    n, classes = probability.shape
    names = ("accuracy", "balanced_accuracy", "auroc")
    if n == 0 or not np.isfinite(probability).all():
        return {name: undefined(n, None) for name in names}
    target = torch.from_numpy(truth)
    guess = torch.from_numpy(probability)
    right = (probability.argmax(axis=1) == truth).astype(np.float64)
    accuracy = multiclass_accuracy(guess, target, num_classes=classes, average="micro")
    recall = multiclass_accuracy(guess, target, num_classes=classes, average="none")
    present = [k for k in range(classes) if bool((truth == k).any())]
    recalls = [MeanRatio(right, (truth == k).astype(np.float64)) for k in present]
    result = {
        "accuracy": Measured(float(accuracy), MeanRatio(right, np.ones(n)), n, None),
        "balanced_accuracy": Measured(float(recall[present].mean()), _macro(recalls), n, None),
    }
    curves = [pair for k in present if (pair := _auroc(probability[:, k], truth == k)) is not None]
    if curves:
        mean = float(np.mean([value for value, _ in curves]))
        result["auroc"] = Measured(mean, _macro([part for _, part in curves]), n, None)
    else:
        result["auroc"] = undefined(n, None)
    return result


def measure_labels(probability: Floats, truth: Bools, known: Bools) -> dict[str, Measured]:
    """Macro AUROC over toxicity labels that have both outcomes among their known patients.

    Parameters
    ----------
    probability, truth, known
        ``(patients, labels)``; a label is scored on the patients in whom it is known.
    """
    n, labels = probability.shape
    events = int((truth & known).sum())
    values, parts = [], []
    for label in range(labels):
        rows = known[:, label]
        pair = _auroc(probability[rows, label], truth[rows, label]) if rows.any() else None
        if pair is None:
            continue
        values.append(pair[0])
        positive, negative = truth[:, label] & rows, ~truth[:, label] & rows
        parts.append(PairRatio.build(probability[:, label], positive[:, None] & negative[None, :]))
    if not values:
        return {"auroc_macro": undefined(n, events)}
    return {"auroc_macro": Measured(float(np.mean(values)), _macro(parts), n, events)}
