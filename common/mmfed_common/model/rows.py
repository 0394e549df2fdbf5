"""Rows of an embedding that every patient shares."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def rows(table: nn.Embedding, patients: int) -> Tensor:
    """Give all rows of a table for broadcasting over patients, ``(patients or 1, rows, width)``.

    Where hooks listen on the table (Opacus), every patient looks the rows up for itself, so that a hook sees
    the patient as dimension 0 and gradients per patient are exact. Otherwise the rows are shared, which costs
    nothing; the maths is the same.
    """
    if not table._forward_hooks:
        return table.weight.unsqueeze(0)
    index = torch.arange(table.num_embeddings, device=table.weight.device)
    looked_up: Tensor = table(index.expand(patients, table.num_embeddings))
    return looked_up
