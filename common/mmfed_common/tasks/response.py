"""Treatment response: one class of several."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def loss(logits: Tensor, response: Tensor) -> Tensor:
    """Cross-entropy of each patient, ``(patients,)``; exactly 0 where the class is unknown.

    Parameters
    ----------
    logits
        ``(patients, classes)``.
    response
        ``(patients,)`` int64 class index, -1 where unknown.
    """
    known = response >= 0
    log_probability = functional.log_softmax(logits, dim=1)
    chosen = log_probability.gather(1, response.clamp(min=0)[:, None])[:, 0]
    return torch.where(known, -chosen, 0.0)


def probabilities(logits: Tensor) -> Tensor:
    """Probability of each class, ``(patients, classes)``."""
    return functional.softmax(logits, dim=1)
