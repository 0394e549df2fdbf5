"""Sparse operations in plain torch: gather, then scatter.

Simple, differentiable any number of times, usable under ``torch.func`` and on any device; stores tensors of
size edges × patients × channels. Every other form is tested against this one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mmfed_common.model.edges import SharedEdges

NEGATIVE_SLOPE = 0.2


def attend(values: Tensor, source_score: Tensor, target_score: Tensor, edges: SharedEdges) -> Tensor:
    """Graph attention of Veličković et al. (ICLR 2018), all heads at once.

    Parameters
    ----------
    values
        ``(patients, sources, hidden)`` projected features; ``hidden`` = heads × channels.
    source_score, target_score
        ``(patients, sources, heads)`` and ``(patients, targets, heads)``, the two halves of the score.
    edges
        Who looks at whom.

    Returns
    -------
    Tensor
        ``(patients, targets, hidden)``; exactly 0 for a target without edges.
    """
    patients, _, hidden = values.shape
    heads = source_score.shape[2]
    score = source_score.index_select(1, edges.source) + target_score.index_select(1, edges.target)
    score = functional.leaky_relu(score, NEGATIVE_SLOPE)
    index = edges.target[None, :, None].expand(patients, len(edges), heads)
    largest = score.new_full((patients, edges.targets, heads), -torch.inf)
    largest = largest.scatter_reduce(1, index, score.detach(), "amax").index_select(1, edges.target)
    weight = torch.exp(score - largest)
    total = weight.new_zeros(patients, edges.targets, heads).index_add(1, edges.target, weight)
    share = weight / total.index_select(1, edges.target)
    gathered = values.index_select(1, edges.source).view(patients, len(edges), heads, hidden // heads)
    message = (gathered * share.unsqueeze(-1)).flatten(2)
    return values.new_zeros(patients, edges.targets, hidden).index_add(1, edges.target, message)


def pool(values: Tensor, standing: Tensor, edges: SharedEdges) -> Tensor:
    """Mean over those sources of a target that have the target's highest standing; 0 where that is 0.

    Parameters
    ----------
    values
        ``(patients, sources, hidden)``.
    standing
        ``(patients, sources)`` float: 0 absent, 1 present, 2 present and linked to the patient.
    edges
        ``source`` = node, ``target`` = pool.

    Returns
    -------
    Tensor
        ``(patients, targets, hidden)``.
    """
    patients, _, hidden = values.shape
    own = standing.index_select(1, edges.source)
    index = edges.target.expand(patients, len(edges))
    best = own.new_zeros(patients, edges.targets).scatter_reduce(1, index, own, "amax")
    counts = ((own == best.index_select(1, edges.target)) & (own > 0)).to(values.dtype)
    number = counts.new_zeros(patients, edges.targets).index_add(1, edges.target, counts)
    weight = counts / number.clamp(min=1.0).index_select(1, edges.target)
    message = values.index_select(1, edges.source) * weight.unsqueeze(-1)
    return values.new_zeros(patients, edges.targets, hidden).index_add(1, edges.target, message)


def score(values: Tensor, weights: Tensor, edges: SharedEdges) -> Tensor:
    """Weighted sum over the sources of each target, one weight for each edge and channel.

    Parameters
    ----------
    values
        ``(patients, sources, channels)``.
    weights
        ``(patients or 1, edges, channels)``.
    edges
        ``source`` = node, ``target`` = pathway.

    Returns
    -------
    Tensor
        ``(patients, targets)``.
    """
    contribution = (values.index_select(1, edges.source) * weights).sum(dim=2)
    return values.new_zeros(values.shape[0], edges.targets).index_add(1, edges.target, contribution)
