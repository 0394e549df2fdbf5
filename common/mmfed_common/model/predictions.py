"""What the model predicts for some patients."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """Logits by task; ``None`` for a task that the study does not have.

    Attributes
    ----------
    hazard_logits
        ``(patients, bins)``.
    response_logits
        ``(patients, classes)``.
    toxicity_logits
        ``(patients, labels)``.
    log_variances
        ``(patients, tasks)`` log-variances of the learned task weights, the same for every patient (one row
        each, so that gradients per patient are exact); ``None`` with a single task.
    """

    hazard_logits: Tensor | None = None
    response_logits: Tensor | None = None
    toxicity_logits: Tensor | None = None
    log_variances: Tensor | None = None
