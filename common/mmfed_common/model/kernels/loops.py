"""The fused loops, compiled by Numba: one patient after the other, each wholly by one thread.

Nothing of size edges × patients × channels is stored. A patient's sums run in the order of the edge list,
whatever the number of threads, so results are the same bits. Head count and channels are constants of the
compiled loop, which lets the compiler unroll and vectorise it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from mmfed_common.model.kernels.plain import NEGATIVE_SLOPE

COMPILE: dict[str, Any] = {"nogil": True, "cache": True, "fastmath": {"contract", "nsz", "arcp", "reassoc"}}
SLOPE = np.float32(NEGATIVE_SLOPE)
Loop = Callable[..., None]


@cache
def attention_forward(heads: int, channels: int) -> Loop:
    """Compile the forward pass for a head count and a width."""
    hidden = heads * channels

    @numba.njit(**COMPILE)
    def run(values, source_score, target_score, pointer, source, out, log_total, first, last):  # type: ignore[no-untyped-def]
        largest = np.empty(heads, values.dtype)
        total = np.empty(heads, values.dtype)
        mixed = np.empty(hidden, values.dtype)
        for patient in range(first, last):
            for target in range(pointer.shape[0] - 1):
                begin, end = pointer[target], pointer[target + 1]
                if begin == end:
                    continue
                largest[:] = source_score[patient, source[begin]]
                for edge in range(begin + 1, end):
                    for head in range(heads):
                        largest[head] = max(largest[head], source_score[patient, source[edge], head])
                for head in range(heads):
                    score = largest[head] + target_score[patient, target, head]
                    largest[head] = score if score > 0 else score * SLOPE
                    total[head] = 0
                mixed[:] = 0
                for edge in range(begin, end):
                    origin = source[edge]
                    for head in range(heads):
                        score = source_score[patient, origin, head] + target_score[patient, target, head]
                        score = score if score > 0 else score * SLOPE
                        weight = math.exp(score - largest[head])
                        total[head] += weight
                        for channel in range(head * channels, (head + 1) * channels):
                            mixed[channel] += weight * values[patient, origin, channel]
                for head in range(heads):
                    share = 1 / total[head]
                    log_total[patient, target, head] = largest[head] + math.log(total[head])
                    for channel in range(head * channels, (head + 1) * channels):
                        out[patient, target, channel] = mixed[channel] * share

    return run  # type: ignore[no-any-return]


@cache
def attention_backward(heads: int, channels: int) -> Loop:
    """Compile the backward pass, which computes the attention weights again."""

    @numba.njit(**COMPILE)
    def run(  # type: ignore[no-untyped-def]
        values, source_score, target_score, pointer, source, out, log_total, grad,
        grad_values, grad_source, grad_target, first, last,
    ):  # fmt: skip
        mean = np.empty(heads, values.dtype)
        slope_sum = np.empty(heads, values.dtype)
        for patient in range(first, last):
            for target in range(pointer.shape[0] - 1):
                for head in range(heads):
                    product = values.dtype.type(0)
                    for channel in range(head * channels, (head + 1) * channels):
                        product += grad[patient, target, channel] * out[patient, target, channel]
                    mean[head] = product
                    slope_sum[head] = 0
                for edge in range(pointer[target], pointer[target + 1]):
                    origin = source[edge]
                    for head in range(heads):
                        score = source_score[patient, origin, head] + target_score[patient, target, head]
                        slope = values.dtype.type(1) if score > 0 else values.dtype.type(SLOPE)
                        weight = math.exp(score * slope - log_total[patient, target, head])
                        product = values.dtype.type(0)
                        for channel in range(head * channels, (head + 1) * channels):
                            product += grad[patient, target, channel] * values[patient, origin, channel]
                            grad_values[patient, origin, channel] += weight * grad[patient, target, channel]
                        change = weight * (product - mean[head]) * slope
                        grad_source[patient, origin, head] += change
                        slope_sum[head] += change
                for head in range(heads):
                    grad_target[patient, target, head] = slope_sum[head]

    return run  # type: ignore[no-any-return]


@numba.njit(**COMPILE)
def pool_forward(values, standing, pointer, source, out, first, last):  # type: ignore[no-untyped-def]
    """Mean over the sources with a target's highest standing."""
    hidden = values.shape[2]
    for patient in range(first, last):
        for target in range(pointer.shape[0] - 1):
            begin, end = pointer[target], pointer[target + 1]
            best = standing.dtype.type(0)
            number = 0
            for edge in range(begin, end):
                own = standing[patient, source[edge]]
                if own > best:
                    best, number = own, 1
                elif own == best:
                    number += 1
            if best == 0:
                continue
            share = values.dtype.type(1.0 / number)
            for edge in range(begin, end):
                origin = source[edge]
                if standing[patient, origin] == best:
                    for channel in range(hidden):
                        out[patient, target, channel] += values[patient, origin, channel]
            for channel in range(hidden):
                out[patient, target, channel] *= share


@numba.njit(**COMPILE)
def pool_backward(standing, pointer, source, grad, grad_values, first, last):  # type: ignore[no-untyped-def]
    """Hand each pool's gradient back to the sources it was the mean of."""
    hidden = grad.shape[2]
    scaled = np.empty(hidden, grad.dtype)
    for patient in range(first, last):
        for target in range(pointer.shape[0] - 1):
            begin, end = pointer[target], pointer[target + 1]
            best = standing.dtype.type(0)
            number = 0
            for edge in range(begin, end):
                own = standing[patient, source[edge]]
                if own > best:
                    best, number = own, 1
                elif own == best:
                    number += 1
            if best == 0:
                continue
            for channel in range(hidden):
                scaled[channel] = grad[patient, target, channel] / number
            for edge in range(begin, end):
                origin = source[edge]
                if standing[patient, origin] == best:
                    for channel in range(hidden):
                        grad_values[patient, origin, channel] += scaled[channel]


@numba.njit(**COMPILE)
def score_forward(values, weights, pointer, source, out, first, last):  # type: ignore[no-untyped-def]
    """Weighted sum over the sources of each target; ``weights`` has one row for all or one per patient."""
    per_patient = weights.shape[0] > 1
    for patient in range(first, last):
        row = patient if per_patient else 0
        for target in range(pointer.shape[0] - 1):
            total = values.dtype.type(0)
            for edge in range(pointer[target], pointer[target + 1]):
                for channel in range(values.shape[2]):
                    total += weights[row, edge, channel] * values[patient, source[edge], channel]
            out[patient, target] = total


@numba.njit(**COMPILE)
def score_backward_values(weights, pointer, source, grad, grad_values, first, last):  # type: ignore[no-untyped-def]
    """Gradient for the values."""
    per_patient = weights.shape[0] > 1
    for patient in range(first, last):
        row = patient if per_patient else 0
        for target in range(pointer.shape[0] - 1):
            for edge in range(pointer[target], pointer[target + 1]):
                for channel in range(grad_values.shape[2]):
                    change = weights[row, edge, channel] * grad[patient, target]
                    grad_values[patient, source[edge], channel] += change


@numba.njit(**COMPILE)
def score_backward_own_weights(values, pointer, source, grad, grad_weights, first, last):  # type: ignore[no-untyped-def]
    """Gradient for weights of which each patient has its own."""
    for patient in range(first, last):
        for target in range(pointer.shape[0] - 1):
            for edge in range(pointer[target], pointer[target + 1]):
                for channel in range(values.shape[2]):
                    product = grad[patient, target] * values[patient, source[edge], channel]
                    grad_weights[patient, edge, channel] = product


@numba.njit(**COMPILE)
def score_backward_shared_weights(values, pointer, source, grad, grad_weights, first, last):  # type: ignore[no-untyped-def]
    """Gradient for shared weights; split over targets, so that no two threads meet on a weight."""
    for target in range(first, last):
        for edge in range(pointer[target], pointer[target + 1]):
            for channel in range(values.shape[2]):
                total = values.dtype.type(0)
                for patient in range(values.shape[0]):
                    total += grad[patient, target] * values[patient, source[edge], channel]
                grad_weights[0, edge, channel] = total
