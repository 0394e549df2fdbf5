"""Toxicity: grade 3+ adverse events, several labels at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def loss(logits: Tensor, toxicity: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy of each patient, summed over known labels and divided by the number of labels.

    Dividing by the contract's number of labels, not the patient's, keeps every label worth the same.

    Parameters
    ----------
    logits
        ``(patients, labels)``.
    toxicity, known
        ``(patients, labels)`` 0/1 and whether the label is known.

    Returns
    -------
    Tensor
        ``(patients,)``; exactly 0 where no label is known.
    """
    target = torch.where(known, toxicity, 0.0)
    cost = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return torch.where(known, cost, 0.0).sum(dim=1) / max(logits.shape[1], 1)


def probabilities(logits: Tensor) -> Tensor:
    """Probability of each label, ``(patients, labels)``."""
    return torch.sigmoid(logits)
