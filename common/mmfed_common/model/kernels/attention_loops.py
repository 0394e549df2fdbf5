"""The fused loops of graph attention, compiled by Numba: one patient after the other, each by one thread.

Nothing of size edges × patients × channels is stored. A patient's sums run in the order of the edge list,
whatever the number of threads, so results are the same bits.

Exponentials are taken per node instead of per edge. With ``a`` and ``b`` the halves of a score and ``A`` the
largest ``a`` of a patient and head, ``exp(leaky(a + b) - m)`` is ``exp(a - A)`` or ``exp(slope (a - A))``
times a factor of the target alone; ``m = leaky(A + b)`` bounds every score of the target, so no factor
exceeds 1. Where all neighbours of a target lie so far below ``A`` that their sum falls under ``LEAST_TOTAL``,
the target's exponentials are taken one by one, and its ``share`` is stored as -1 so that the backward pass
does so too.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from mmfed_common.model.kernels.edge_vectors import add_scaled, dot_heads, edge_backward, edge_forward
from mmfed_common.model.kernels.plain import NEGATIVE_SLOPE

COMPILE: dict[str, Any] = {"nogil": True, "cache": True, "fastmath": {"contract", "nsz", "arcp", "reassoc"}}
LEAST_TOTAL = np.float32(1e-18)
LEAST_EXPONENT = np.float32(-87)
SLOPE = np.float32(NEGATIVE_SLOPE)
REST = np.float32(1 - NEGATIVE_SLOPE)
HALF, LOG_2_E = np.float32(0.5), np.float32(math.log2(math.e))
LN_2_HIGH, LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
SERIES = tuple(np.float32(1 / math.factorial(i)) for i in range(8))


@numba.njit(**COMPILE)
def exponential(x, power):  # type: ignore[no-untyped-def]
    """Replace numbers ≤ 0 by their exponentials, ``power`` being as many int32 of working space.

    Two loops without branches, which the compiler vectorises; 2 units in the last place from the truth.
    """
    for i in range(x.shape[0]):
        clamped = max(x[i], LEAST_EXPONENT)
        whole = np.float32(math.floor(clamped * LOG_2_E + HALF))
        rest = (clamped - whole * LN_2_HIGH) - whole * LN_2_LOW
        value = SERIES[7]
        value = value * rest + SERIES[6]
        value = value * rest + SERIES[5]
        value = value * rest + SERIES[4]
        value = value * rest + SERIES[3]
        value = value * rest + SERIES[2]
        value = value * rest + SERIES[1]
        x[i] = value * rest + SERIES[0]
        power[i] = (np.int32(whole) + np.int32(127)) << np.int32(23)
    scale = power.view(np.float32)
    for i in range(x.shape[0]):
        x[i] *= scale[i]


@numba.njit(**COMPILE)
def source_side(a, largest, work, power, side):  # type: ignore[no-untyped-def]
    """Rows of ``a``, ``exp(a - A)``, ``exp(slope (a - A))``, and ``A`` itself."""
    nodes, heads = a.shape
    largest[:] = -np.inf
    for node in range(nodes):
        for head in range(heads):
            largest[head] = max(largest[head], a[node, head])
    for node in range(nodes):
        for head in range(heads):
            work[node * heads + head] = (a[node, head] - largest[head]) * SLOPE
    exponential(work[: nodes * heads], power[: nodes * heads])
    for node in range(nodes):
        for head in range(heads):
            low = work[node * heads + head]
            square = low * low
            side[node, head] = a[node, head]
            side[node, heads + head] = square * square * low
            side[node, 2 * heads + head] = low


@numba.njit(**COMPILE)
def target_side(b, largest, work, power, side):  # type: ignore[no-untyped-def]
    """Rows of ``b`` and the two factors; one of them is 1, the other ``exp(-(1 - slope) |A + b|)``."""
    nodes, heads = b.shape
    for node in range(nodes):
        for head in range(heads):
            work[node * heads + head] = -REST * abs(largest[head] + b[node, head])
    exponential(work[: nodes * heads], power[: nodes * heads])
    for node in range(nodes):
        for head in range(heads):
            factor = work[node * heads + head]
            positive = largest[head] + b[node, head] > 0
            side[node, head] = b[node, head]
            side[node, heads + head] = np.float32(1) if positive else factor
            side[node, 2 * heads + head] = factor if positive else np.float32(1)


@numba.njit(**COMPILE)
def exact_weights(a, b, source, weights, head):  # type: ignore[no-untyped-def]
    """Weights of one target and head, each with its own exponential."""
    largest = np.float32(-np.inf)
    for edge in range(source.shape[0]):
        score = a[source[edge], head] + b[head]
        largest = max(largest, max(score, score * SLOPE))
    total = np.float32(0)
    for edge in range(source.shape[0]):
        score = a[source[edge], head] + b[head]
        weights[edge] = math.exp(max(score, score * SLOPE) - largest)
        total += weights[edge]
    for edge in range(source.shape[0]):
        weights[edge] /= total


@numba.njit(**COMPILE)
def exact_forward(values, a, b, source, heads, out):  # type: ignore[no-untyped-def]
    """Attend for one target."""
    channels = values.shape[1] // heads
    weights = np.empty(source.shape[0], np.float32)
    out[:] = 0
    for head in range(heads):
        exact_weights(a, b, source, weights, head)
        for edge in range(source.shape[0]):
            for place in range(head * channels, (head + 1) * channels):
                out[place] += weights[edge] * values[source[edge], place]


@numba.njit(**COMPILE)
def exact_backward(values, a, b, source, grad, mean, grad_values, grad_a, grad_b):  # type: ignore[no-untyped-def]
    """Backward pass of one target."""
    heads = b.shape[0]
    channels = values.shape[1] // heads
    weights = np.empty(source.shape[0], np.float32)
    for head in range(heads):
        exact_weights(a, b, source, weights, head)
        for edge in range(source.shape[0]):
            origin = source[edge]
            product = -mean[head]
            for place in range(head * channels, (head + 1) * channels):
                product += grad[place] * values[origin, place]
                grad_values[origin, place] += weights[edge] * grad[place]
            slope = np.float32(1) if a[origin, head] + b[head] > 0 else SLOPE
            change = weights[edge] * product * slope
            grad_a[origin, head] += change
            grad_b[head] += change


@numba.njit(**COMPILE)
def prepare(  # type: ignore[no-untyped-def]
    heads, channels, values, vectors, target_score, a, b, largest, work, power, of_source, of_target
):
    """Both halves of one patient's scores, and their exponentials."""
    for node in range(values.shape[0]):
        dot_heads(heads, channels, values, node, vectors, 0, a, node)
    if vectors.shape[0] > 1:
        for node in range(values.shape[0]):
            dot_heads(heads, channels, values, node, vectors, 1, b, node)
    else:
        b[:] = target_score
    source_side(a, largest, work, power, of_source)
    target_side(b, largest, work, power, of_target)


@numba.njit(**COMPILE)
def attention_forward(  # type: ignore[no-untyped-def]
    heads, channels, values, attention, target_score, pointer, source, out, shares, first, last
):
    """Forward pass for patients ``first`` to ``last``; ``heads``, ``channels`` are tuples of that length."""
    sources, targets, count = values.shape[1], out.shape[1], len(heads)
    a, b = np.empty((sources, count), np.float32), np.empty((targets, count), np.float32)
    of_source = np.empty((sources, 3 * count), np.float32)
    of_target = np.empty((targets, 3 * count), np.float32)
    work = np.empty(max(sources, targets) * count, np.float32)
    power, largest = np.empty(work.shape[0], np.int32), np.empty(count, np.float32)
    for patient in range(first, last):
        own, result, total = values[patient], out[patient], shares[patient]
        vectors = attention[patient if attention.shape[0] > 1 else 0]
        given = target_score[patient]
        prepare(heads, channels, own, vectors, given, a, b, largest, work, power, of_source, of_target)
        result[:] = 0
        total[:] = 0
        for t in range(targets):
            begin, end = pointer[t], pointer[t + 1]
            for edge in range(begin, end):
                o = source[edge]
                edge_forward(heads, channels, own, o, of_source, o, of_target, t, total, t, result, t)
            if begin < end and total[t].min() < LEAST_TOTAL:
                exact_forward(own, a, b[t], source[begin:end], count, result[t])
                total[t] = -1
            elif begin < end:
                for head in range(count):
                    total[t, head] = 1 / total[t, head]
                    for place in range(head * len(channels), (head + 1) * len(channels)):
                        result[t, place] *= total[t, head]


@numba.njit(**COMPILE)
def through_edges(  # type: ignore[no-untyped-def]
    heads, channels, values, a, b, of_source, of_target, pointer, source, out, shares, grad,
    grad_values, grad_a, grad_b,
):  # fmt: skip
    """Backward pass of one patient, up to the halves of the scores."""
    mean = np.empty((1, len(heads)), np.float32)
    for t in range(grad.shape[0]):
        begin, end = pointer[t], pointer[t + 1]
        dot_heads(heads, channels, grad, t, out, t, mean, 0)
        if shares[t, 0] < 0:
            among = source[begin:end]
            exact_backward(values, a, b[t], among, grad[t], mean[0], grad_values, grad_a, grad_b[t])
            continue
        for head in range(len(heads)):
            of_target[t, len(heads) + head] *= shares[t, head]
            of_target[t, 2 * len(heads) + head] *= shares[t, head]
        for edge in range(begin, end):
            o = source[edge]
            edge_backward(
                heads, channels, values, o, of_source, o, of_target, t, grad, t, mean, 0,
                grad_values, o, grad_a, o, grad_b, t,
            )  # fmt: skip


@numba.njit(**COMPILE)
def through_half(heads, channels, values, vectors, half, grad_half, grad_values, grad_vectors):  # type: ignore[no-untyped-def]
    """Hand the gradient of one half of the scores on to values and attention vectors."""
    for node in range(values.shape[0]):
        add_scaled(heads, channels, grad_half, node, vectors, half, grad_values, node)
        add_scaled(heads, channels, grad_half, node, values, node, grad_vectors, half)


@numba.njit(**COMPILE)
def attention_backward(  # type: ignore[no-untyped-def]
    heads, channels, values, attention, target_score, pointer, source, out, shares, grad,
    grad_values, grad_attention, grad_target, first, last,
):  # fmt: skip
    """Backward pass, which computes the attention weights again."""
    sources, targets, count = values.shape[1], out.shape[1], len(heads)
    a, b = np.empty((sources, count), np.float32), np.empty((targets, count), np.float32)
    grad_a, grad_b = np.empty((sources, count), np.float32), np.empty((targets, count), np.float32)
    of_source = np.empty((sources, 3 * count), np.float32)
    of_target = np.empty((targets, 3 * count), np.float32)
    work = np.empty(max(sources, targets) * count, np.float32)
    power, largest = np.empty(work.shape[0], np.int32), np.empty(count, np.float32)
    for patient in range(first, last):
        own, grad_own, grad_vectors = values[patient], grad_values[patient], grad_attention[patient]
        vectors = attention[patient if attention.shape[0] > 1 else 0]
        given = target_score[patient]
        prepare(heads, channels, own, vectors, given, a, b, largest, work, power, of_source, of_target)
        for array in (grad_own, grad_a, grad_b, grad_vectors):
            array[:] = 0
        through_edges(
            heads, channels, own, a, b, of_source, of_target, pointer, source, out[patient],
            shares[patient], grad[patient], grad_own, grad_a, grad_b,
        )  # fmt: skip
        through_half(heads, channels, own, vectors, 0, grad_a, grad_own, grad_vectors)
        if vectors.shape[0] > 1:
            through_half(heads, channels, own, vectors, 1, grad_b, grad_own, grad_vectors)
        else:
            grad_target[patient] = grad_b
