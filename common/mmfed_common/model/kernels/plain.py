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


def head_scores(projected: Tensor, attention: Tensor) -> Tensor:
    """Score of each head: the product of its channels with its attention vector.

    Parameters
    ----------
    projected
        ``(patients, nodes, heads × channels)``.
    attention
        ``(patients or 1, vectors × heads, channels)``; several vectors for each head are laid end to end.

    Returns
    -------
    Tensor
        ``(patients, nodes, vectors × heads)``.
    """
    count, channels = attention.shape[1], attention.shape[2]
    heads = projected.shape[2] // channels
    owner = torch.arange(count, device=attention.device) % heads
    place = functional.one_hot(owner, heads).to(attention.dtype)
    spread = attention.unsqueeze(2) * place[:, :, None]
    return torch.matmul(projected, spread.flatten(2).transpose(1, 2))


def attend(values: Tensor, attention: Tensor, target_score: Tensor | None, edges: SharedEdges) -> Tensor:
    """Graph attention of Veličković et al. (ICLR 2018), all heads at once.

    Parameters
    ----------
    values
        ``(patients, sources, hidden)`` projected features; ``hidden`` = heads × channels.
    attention
        ``(patients or 1, heads, channels)`` vectors that give the source's half of the score; where the
        targets are the sources, ``(patients or 1, 2 × heads, channels)``, the second half for the target.
    target_score
        ``(patients, targets, heads)``, the target's half of the score; ``None`` where the targets are the
        sources.
    edges
        Who looks at whom.

    Returns
    -------
    Tensor
        ``(patients, targets, hidden)``; exactly 0 for a target without edges.
    """
    return attend_over(values, attention, target_score, edges.source, edges.target, edges.targets)


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
    return pool_over(values, standing, edges.source, edges.target, edges.targets)


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
    return score_over(values, weights, edges.source, edges.target, edges.targets)


def attend_over(
    values: Tensor,
    attention: Tensor,
    target_score: Tensor | None,
    source: Tensor,
    target: Tensor,
    targets: int,
) -> Tensor:
    """:func:`attend` with the edges as tensors, which ``torch.compile`` does not specialise on."""
    patients, _, hidden = values.shape
    channels = attention.shape[2]
    heads = hidden // channels
    scores = head_scores(values, attention)
    source_score = scores[..., :heads]
    if target_score is None:
        target_score = scores[..., heads:]
    score = source_score.index_select(1, source) + target_score.index_select(1, target)
    score = functional.leaky_relu(score, NEGATIVE_SLOPE)
    index = target[None, :, None].expand(patients, source.shape[0], heads)
    largest = score.new_full((patients, targets, heads), -torch.inf)
    largest = largest.scatter_reduce(1, index, score.detach(), "amax").index_select(1, target)
    weight = torch.exp(score - largest)
    total = weight.new_zeros(patients, targets, heads).index_add(1, target, weight)
    share = weight / total.index_select(1, target)
    gathered = values.index_select(1, source).view(patients, source.shape[0], heads, channels)
    message = (gathered * share.unsqueeze(-1)).flatten(2)
    return values.new_zeros(patients, targets, hidden).index_add(1, target, message)


def pool_over(values: Tensor, standing: Tensor, source: Tensor, target: Tensor, targets: int) -> Tensor:
    """:func:`pool` with the edges as tensors."""
    patients, _, hidden = values.shape
    own = standing.index_select(1, source)
    index = target.expand(patients, source.shape[0])
    best = own.new_zeros(patients, targets).scatter_reduce(1, index, own, "amax")
    counts = ((own == best.index_select(1, target)) & (own > 0)).to(values.dtype)
    number = counts.new_zeros(patients, targets).index_add(1, target, counts)
    weight = counts / number.clamp(min=1.0).index_select(1, target)
    message = values.index_select(1, source) * weight.unsqueeze(-1)
    return values.new_zeros(patients, targets, hidden).index_add(1, target, message)


def score_over(values: Tensor, weights: Tensor, source: Tensor, target: Tensor, targets: int) -> Tensor:
    """:func:`score` with the edges as tensors."""
    contribution = (values.index_select(1, source) * weights).sum(dim=2)
    return values.new_zeros(values.shape[0], targets).index_add(1, target, contribution)
