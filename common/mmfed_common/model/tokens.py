"""From nodes to tokens: pathway tokens for genes, one pooled token for each other modality."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def masked_softmax(score: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension; masked entries, and rows that are masked entirely, give 0."""
    filled = score.masked_fill(~mask, torch.finfo(score.dtype).min / 2)
    return filled.softmax(dim=-1) * mask


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of the unmasked tokens, ``(patients, tokens, hidden)`` → ``(patients, hidden)``; 0 for none."""
    weight = mask.to(tokens.dtype)
    total = torch.matmul(weight.unsqueeze(1), tokens).squeeze(1)
    return total / weight.sum(dim=1, keepdim=True).clamp(min=1.0)


class AttentionPool(nn.Module):
    """Pool the nodes that a patient has with learned attention."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, nodes: Tensor, mask: Tensor) -> Tensor:
        """``(patients, nodes, hidden)``, ``(patients, nodes)`` bool → ``(patients, hidden)``; 0 for none."""
        share = masked_softmax(self.score(nodes).squeeze(2), mask)
        return torch.matmul(share.unsqueeze(1), nodes).squeeze(1)
