"""Graph contrastive learning: two altered views of a patient's graph must be told from other patients.

After You et al., "Graph contrastive learning with augmentations", NeurIPS 2020 (arXiv:2010.13902), with the
InfoNCE loss of van den Oord et al., 2018 (arXiv:1807.03748). Every patient of a batch stands in the loss of
the others: it is not separable, and a private study refuses it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmfed_common.model.edges import SharedEdges
from mmfed_common.patients import NodeTensors


class Projection(nn.Module):
    """From a patient's fused vector to a vector of length 1, in which views are compared."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.widen = nn.Linear(hidden, hidden)
        self.project = nn.Linear(hidden, hidden)

    def forward(self, fused: Tensor) -> Tensor:
        """``(patients, hidden)`` → the same shape."""
        return functional.normalize(self.project(functional.gelu(self.widen(fused))), dim=1)


def with_noise(values: Tensor, present: Tensor, deviation: float) -> Tensor:
    """Add noise to standardised values that are there; draws from torch's global generator."""
    return torch.where(present, values + deviation * torch.randn_like(values), values)


def fewer_edges(edges: SharedEdges, rate: float) -> SharedEdges:
    """Leave out each edge with a probability, for all patients of a batch alike; self-loops stay."""
    keep = torch.rand(len(edges), device=edges.source.device) >= rate
    if edges.self_loops:
        keep = keep | (edges.source == edges.target)
    return edges.only(keep)


def fewer_links(linked: Tensor, rate: float) -> Tensor:
    """Leave out links of patients to genes, each patient's on their own."""
    return linked & (torch.rand(linked.shape, device=linked.device) >= rate)


def fewer_neighbours(node: NodeTensors, rate: float) -> Tensor | None:
    """Leave out neighbours of tiles, each patient's on their own; padded with -1 as before."""
    if node.neighbours is None:
        return None
    keep = torch.rand(node.neighbours.shape, device=node.neighbours.device) >= rate
    return torch.where(keep, node.neighbours, -1)


def info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """InfoNCE of two views, both directions: the other patients of the batch are the negatives.

    Parameters
    ----------
    first, second
        ``(patients, width)`` vectors of length 1, the same patient at the same place.

    Returns
    -------
    Tensor
        ``(patients,)``; 0 for a patient who is alone in his batch.
    """
    similar = first @ second.T / temperature
    own = torch.arange(first.shape[0], device=first.device)
    there = functional.cross_entropy(similar, own, reduction="none")
    back = functional.cross_entropy(similar.T, own, reduction="none")
    return 0.5 * (there + back)
