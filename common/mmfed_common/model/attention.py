"""Graph attention on dense tensors: within a node type, between two, and over a patient's own neighbours.

Equal to PyG's ``GATConv`` on the same weights (``concat``, no bias). Parameters stand only in ``nn.Linear``
and ``nn.Embedding`` leaves and the patient is dimension 0, so that hooks give exact gradients per patient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmfed_common.model.edges import SharedEdges
from mmfed_common.model.kernels import Kernels
from mmfed_common.model.kernels.plain import NEGATIVE_SLOPE, head_scores
from mmfed_common.model.rows import rows


def _attention_table(vectors: int, channels: int) -> nn.Embedding:
    table = nn.Embedding(vectors, channels)
    nn.init.uniform_(table.weight, -math.sqrt(6 / (channels + 1)), math.sqrt(6 / (channels + 1)))
    return table


class GraphAttention(nn.Module):
    """Attention within one node type over shared edges with a self-loop at every node.

    ``attention`` holds the source vectors of all heads, then the target vectors.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(hidden, hidden, bias=False)
        nn.init.xavier_uniform_(self.project.weight)
        self.attention = _attention_table(2 * heads, hidden // heads)

    def forward(self, nodes: Tensor, edges: SharedEdges, kernels: Kernels) -> Tensor:
        """``(patients, nodes, hidden)`` → the same shape."""
        projected = self.project(nodes)
        return kernels.attend(projected, rows(self.attention, nodes.shape[0]), None, edges)


class CrossAttention(nn.Module):
    """Attention from one node type to another over shared edges; a target without edges receives 0.

    Only the score of a target is needed, so one linear layer gives it directly.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden, hidden, bias=False)
        nn.init.xavier_uniform_(self.project.weight)
        self.attention = _attention_table(heads, hidden // heads)
        self.target_score = nn.Linear(hidden, heads, bias=False)

    def forward(self, sources: Tensor, targets: Tensor, edges: SharedEdges, kernels: Kernels) -> Tensor:
        """``(patients, sources, hidden)``, ``(patients, targets, hidden)`` → the shape of the targets."""
        projected = self.project(sources.index_select(1, edges.used))
        attention = rows(self.attention, sources.shape[0])
        return kernels.attend(projected, attention, self.target_score(targets), edges)


class NeighbourAttention(nn.Module):
    """Attention over a patient's own neighbours, such as tiles of a slide, and the node itself."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(hidden, hidden, bias=False)
        nn.init.xavier_uniform_(self.project.weight)
        self.attention = _attention_table(2 * heads, hidden // heads)

    def forward(self, nodes: Tensor, neighbours: Tensor) -> Tensor:
        """Attend.

        Parameters
        ----------
        nodes
            ``(patients, nodes, hidden)``.
        neighbours
            ``(patients, nodes, k)`` int64, padded with -1; the node itself is not among them.
        """
        patients, count, hidden = nodes.shape
        projected = self.project(nodes)
        scores = head_scores(projected, rows(self.attention, patients))
        own = torch.arange(count, device=nodes.device).expand(patients, count)[:, :, None]
        index = torch.cat([own, neighbours], dim=2)
        valid, index = index >= 0, index.clamp(min=0)
        flat = index.flatten(1)[:, :, None]
        shape = (patients, count, index.shape[2], self.heads)
        source = scores[..., : self.heads].gather(1, flat.expand(-1, -1, self.heads)).view(shape)
        score = source + scores[..., self.heads :].unsqueeze(2)
        score = functional.leaky_relu(score, NEGATIVE_SLOPE).masked_fill(~valid[..., None], -torch.inf)
        share = score.softmax(dim=2)
        gathered = projected.gather(1, flat.expand(-1, -1, hidden)).view(*shape, hidden // self.heads)
        message: Tensor = (gathered * share.unsqueeze(-1)).sum(dim=2).flatten(2)
        return message
