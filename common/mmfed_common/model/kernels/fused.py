"""The sparse operations on the CPU in one pass each, as autograd functions over the fused loops."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmfed_common.model.edges import SharedEdges
from mmfed_common.model.kernels import attention_loops, plain
from mmfed_common.model.kernels import pooling_loops as loops
from mmfed_common.threads import share_out

Array = npt.NDArray[Any]
CHUNK = 16
"""Pooling takes so many numbers of a row together."""


def attend(values: Tensor, attention: Tensor, target_score: Tensor | None, edges: SharedEdges) -> Tensor:
    """Graph attention; see :func:`mmfed_common.model.kernels.plain.attend`.

    In float32; anything else takes the plain form.
    """
    if values.dtype != torch.float32:
        return plain.attend(values, attention, target_score, edges)
    heads = values.shape[2] // attention.shape[2]
    vectors = attention.reshape(attention.shape[0], attention.shape[1] // heads, values.shape[2])
    if target_score is None:
        target_score = values.new_empty(values.shape[0], 0, heads)
    result: Tensor = _Attend.apply(values, vectors, target_score, edges)  # type: ignore[no-untyped-call]
    return result


def pool(values: Tensor, standing: Tensor, edges: SharedEdges) -> Tensor:
    """Mean over the sources of highest standing; see :func:`mmfed_common.model.kernels.plain.pool`.

    In float32; anything else takes the plain form.
    """
    if values.dtype != torch.float32:
        return plain.pool(values, standing, edges)
    result: Tensor = _Pool.apply(values, standing, edges)  # type: ignore[no-untyped-call]
    return result


def score(values: Tensor, weights: Tensor, edges: SharedEdges) -> Tensor:
    """Weighted sum over sources; see :func:`mmfed_common.model.kernels.plain.score`.

    In float32; anything else takes the plain form.
    """
    if values.dtype != torch.float32:
        return plain.score(values, weights, edges)
    result: Tensor = _Score.apply(values, weights, edges)  # type: ignore[no-untyped-call]
    return result


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, vectors: Tensor, target_score: Tensor, edges: SharedEdges
    ) -> Tensor:
        values, vectors, target_score = (t.contiguous() for t in (values, vectors, target_score))
        patients, _, hidden = values.shape
        heads = target_score.shape[2]
        out = values.new_empty(patients, edges.targets, hidden)
        shares = values.new_empty(patients, edges.targets, heads)
        ctx.edges, ctx.sizes = edges, ((0,) * heads, (0,) * (hidden // heads))
        arrays = (values, vectors, target_score, edges.pointer, edges.source_int32, out, shares)
        share_out(partial(attention_loops.attention_forward, *ctx.sizes, *map(_array, arrays)), patients)
        ctx.save_for_backward(values, vectors, target_score, out, shares)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Give the gradients of values, score vectors and target scores; the edges have none."""
        values, vectors, target_score, out, shares = ctx.saved_tensors
        edges: SharedEdges = ctx.edges
        patients = values.shape[0]
        grad_values, grad_target = torch.empty_like(values), torch.empty_like(target_score)
        grad_vectors = vectors.new_empty(patients, *vectors.shape[1:])
        arrays = (
            *(values, vectors, target_score, edges.pointer, edges.source_int32),
            *(out, shares, grad.contiguous(), grad_values, grad_vectors, grad_target),
        )
        share_out(partial(attention_loops.attention_backward, *ctx.sizes, *map(_array, arrays)), patients)
        if vectors.shape[0] == 1:
            grad_vectors = grad_vectors.sum(dim=0, keepdim=True)
        return grad_values, grad_vectors, grad_target, None


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, standing: Tensor, edges: SharedEdges) -> Tensor:
        values, standing = values.contiguous(), standing.contiguous()
        out = values.new_empty(values.shape[0], edges.targets, values.shape[2])
        chunk = math.gcd(values.shape[2], CHUNK)
        ctx.sizes = (0,) * (values.shape[2] // chunk), (0,) * chunk
        arrays = (values, standing, edges.pointer, edges.source_int32, out)
        share_out(partial(loops.pool_forward, *ctx.sizes, *map(_array, arrays)), values.shape[0])
        ctx.edges, ctx.sources = edges, values.shape[1]
        ctx.save_for_backward(standing)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (standing,) = ctx.saved_tensors
        edges: SharedEdges = ctx.edges
        grad_values = grad.new_empty(grad.shape[0], ctx.sources, grad.shape[2])
        arrays = (standing, edges.pointer, edges.source_int32, grad.contiguous(), grad_values)
        share_out(partial(loops.pool_backward, *ctx.sizes, *map(_array, arrays)), grad.shape[0])
        return grad_values, None, None


class _Score(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: Tensor, edges: SharedEdges) -> Tensor:
        values, weights = values.contiguous(), weights.contiguous()
        out = values.new_zeros(values.shape[0], edges.targets)
        arrays = (values, weights, edges.pointer, edges.source_int32, out)
        share_out(partial(loops.score_forward, *map(_array, arrays)), values.shape[0])
        ctx.edges = edges
        ctx.save_for_backward(values, weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Give the gradients of values and weights; the edges have none."""
        values, weights = ctx.saved_tensors
        edges: SharedEdges = ctx.edges
        shared = tuple(map(_array, (edges.pointer, edges.source_int32, grad.contiguous())))
        grad_values = grad_weights = None
        if ctx.needs_input_grad[0]:
            grad_values = torch.zeros_like(values)
            run = partial(loops.score_backward_values, _array(weights), *shared, _array(grad_values))
            share_out(run, values.shape[0])
        if ctx.needs_input_grad[1]:
            grad_weights = torch.zeros_like(weights)
            arrays = (_array(values), *shared, _array(grad_weights))
            if weights.shape[0] == 1:
                share_out(partial(loops.score_backward_shared_weights, *arrays), edges.targets)
            else:
                share_out(partial(loops.score_backward_own_weights, *arrays), values.shape[0])
        return grad_values, grad_weights, None


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().numpy()
    return array
