"""The sum over tasks with learned weights.

Kendall, Gal & Cipolla (CVPR 2018): task ``t`` costs ``exp(-s_t) * loss_t + s_t / 2`` with a learned
log-variance ``s_t``. Both terms count for a patient only where that task is labelled, so the sum stays
separable over patients. With one task the weight is exactly 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmfed_common.patients import Outcomes
from mmfed_common.tasks import response, survival, toxicity

if TYPE_CHECKING:
    from mmfed_common.model import MultimodalNetwork, Predictions


def task_losses(
    model: MultimodalNetwork, predictions: Predictions, outcomes: Outcomes
) -> dict[str, tuple[Tensor, Tensor]]:
    """Give each task's loss without weights and where it is labelled, both ``(patients,)``.

    The loss is exactly 0, and so is its gradient, where the label is missing.
    """
    losses: dict[str, tuple[Tensor, Tensor]] = {}
    if predictions.hazard_logits is not None:
        known = outcomes.survival_known
        time = torch.where(known, outcomes.time_days, 0.0)
        event = torch.where(known, outcomes.event, 0.0)
        cost = survival.hazard_loss(predictions.hazard_logits, time, event, model.bins, model.censoring)
        losses["survival"] = torch.where(known, cost, 0.0), known
    if predictions.response_logits is not None:
        losses["response"] = (
            response.loss(predictions.response_logits, outcomes.response),
            outcomes.response >= 0,
        )
    if predictions.toxicity_logits is not None:
        known = outcomes.toxicity_known
        cost = toxicity.loss(predictions.toxicity_logits, outcomes.toxicity, known)
        losses["toxicity"] = cost, known.any(dim=1)
    return losses


def patient_losses(model: MultimodalNetwork, predictions: Predictions, outcomes: Outcomes) -> Tensor:
    """Weighted sum over tasks of each patient, ``(patients,)``.

    Parameters
    ----------
    model
        The network itself, also where a wrapper such as Opacus's made the predictions; gives the bins.
    predictions
        Its output, with the log-variances of its task weights.
    outcomes
        The patients' outcomes; labels may be missing per task.
    """
    losses = task_losses(model, predictions, outcomes)
    if predictions.log_variances is None:
        ((cost, _),) = losses.values()
        return cost
    total = torch.zeros_like(outcomes.time_days, dtype=torch.float32)
    for column, (cost, known) in enumerate(losses.values()):
        log_variance = predictions.log_variances[:, column]
        total = total + torch.where(known, torch.exp(-log_variance) * cost + log_variance / 2, 0.0)
    return total
