"""What arms are worth at one site: metrics over the site's own held-out patients.

Patients are compared only with patients of the same fold, who were scored by the same model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmfed_common.contract import Contract
from mmfed_common.metrics import Measured, survival_log_loss
from mmfed_common.metrics.estimate import Floats
from mmfed_common.metrics.likelihood import SMALLEST
from mmfed_common.metrics.resampled import Bools, MeanRatio, mean_of
from mmfed_simulations.evaluation.hospital.within_site import label_pairs, survival_pairs
from mmfed_simulations.evaluation.predictions import scored_times, survival_matrix

MAIN: dict[str, str] = {"survival": "c_index", "response": "auroc", "toxicity": "auroc_macro"}
"""The metric by which a site is judged, of each task."""
LOWER_IS_BETTER = frozenset({"log_loss"})


def site_metrics(rows: pd.DataFrame, contract: Contract, task: str) -> dict[str, Measured]:
    """Metrics of one arm at one site.

    ``survival``: C-index over pairs within folds, ``log_loss``. ``response``: one-against-rest AUROC (macro)
    over pairs within folds, accuracy, ``log_loss``. ``toxicity``: AUROC (macro) over pairs within folds,
    ``log_loss``. ``log_loss`` is the mean negative log-likelihood of a patient (of toxicity: of a label).

    Parameters
    ----------
    rows
        Rows of one arm and site that the task can score, sorted by fold.
    """
    if task == "survival":
        return _survival(rows, contract)
    if task == "response":
        return _response(rows, contract)
    return _toxicity(rows, contract)


def informative(rows: pd.DataFrame, contract: Contract, task: str) -> int:
    """How much a site's patients can tell: deaths; patients outside the commonest class; or with an event."""
    if task == "survival":
        return int((rows["event"] == 1.0).sum())
    if task == "response":
        counts = rows["response_true"].value_counts()
        return int(counts.sum() - counts.max()) if len(counts) else 0
    truth, known = toxicity_truth(rows, contract)
    return int((truth & known).any(axis=1).sum())


def response_truth(rows: pd.DataFrame, contract: Contract) -> npt.NDArray[np.int64]:
    """``(rows,)`` index of the true class."""
    assert contract.response is not None
    names = {name: k for k, name in enumerate(contract.response.classes)}
    return rows["response_true"].map(names).to_numpy().astype(np.int64)


def response_chances(rows: pd.DataFrame, contract: Contract) -> Floats:
    """``(rows, classes)`` predicted probabilities, none below the least that counts."""
    assert contract.response is not None
    columns = [f"response_{name}" for name in contract.response.classes]
    chances: Floats = np.clip(rows[columns].to_numpy(np.float64), SMALLEST, 1.0)
    return chances


def toxicity_truth(rows: pd.DataFrame, contract: Contract) -> tuple[Bools, Bools]:
    """``(rows, labels)`` whether the event happened, and whether that is known."""
    assert contract.toxicity is not None
    truth = rows[[f"toxicity_true_{name}" for name in contract.toxicity.labels]].to_numpy(np.float64)
    return truth == 1.0, np.isfinite(truth)


def toxicity_chances(rows: pd.DataFrame, contract: Contract) -> Floats:
    """``(rows, labels)`` predicted probabilities, none nearer to 0 or 1 than the least that counts."""
    assert contract.toxicity is not None
    columns = [f"toxicity_{name}" for name in contract.toxicity.labels]
    chances: Floats = np.clip(rows[columns].to_numpy(np.float64), SMALLEST, 1.0 - SMALLEST)
    return chances


def _survival(rows: pd.DataFrame, contract: Contract) -> dict[str, Measured]:
    time = rows["time_days"].to_numpy(np.float64)
    event = rows["event"].to_numpy(np.float64) == 1.0
    times = scored_times(contract)
    losses = survival_log_loss(survival_matrix(rows, times), times, time, event)
    deaths = int(event.sum())
    return {
        "c_index": _measured(survival_pairs(rows), rows, deaths),
        "log_loss": _mean(losses, rows, deaths),
    }


def _response(rows: pd.DataFrame, contract: Contract) -> dict[str, Measured]:
    truth, chances = response_truth(rows, contract), response_chances(rows, contract)
    present = [k for k in range(chances.shape[1]) if (truth == k).any()]
    pairs = [label_pairs(rows, chances[:, k], truth == k) for k in present]
    right = (chances.argmax(axis=1) == truth).astype(np.float64)
    losses = -np.log(chances[np.arange(len(rows)), truth])
    return {
        "auroc": _measured(_macro(pairs), rows, None),
        "accuracy": _mean(right, rows, None),
        "log_loss": _mean(losses, rows, None),
    }


def _toxicity(rows: pd.DataFrame, contract: Contract) -> dict[str, Measured]:
    (truth, known), chances = toxicity_truth(rows, contract), toxicity_chances(rows, contract)
    events = int((truth & known).sum())
    pairs = []
    for label in range(truth.shape[1]):
        # An unknown label must be in no pair: its patients are left out of both sides.
        pairs.append(_known_pairs(rows, chances[:, label], truth[:, label], known[:, label]))
    losses = np.where(known, -np.log(np.where(truth, chances, 1.0 - chances)), 0.0).sum(axis=1)
    weights = known.sum(axis=1).astype(np.float64)
    mean = MeanRatio(losses / np.maximum(weights, 1.0), weights)
    return {
        "auroc_macro": _measured(_macro(pairs), rows, events),
        "log_loss": _measured(mean, rows, events),
    }


def _known_pairs(
    rows: pd.DataFrame, score: Floats, positive: Bools, known: Bools
) -> Callable[[Floats], Floats]:
    at = np.flatnonzero(known)
    pairs = label_pairs(rows.iloc[at], score[at], positive[at])
    return lambda counts: pairs(counts[:, at])


def _macro(parts: Sequence[Callable[[Floats], Floats]]) -> Callable[[Floats], Floats]:
    return partial(mean_of, parts)


def _mean(values: Floats, rows: pd.DataFrame, events: int | None) -> Measured:
    return _measured(MeanRatio(values, np.ones(len(values))), rows, events)


def _measured(metric: Callable[[Floats], Floats], rows: pd.DataFrame, events: int | None) -> Measured:
    value = float(metric(np.ones((1, len(rows))))[0])
    return Measured(value, metric, len(rows), events)
