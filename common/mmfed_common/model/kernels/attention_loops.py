"""The fused loops of graph attention, compiled by Numba: one patient after the other, each by one thread.

Nothing of size edges × patients × channels is stored. A patient's sums run in the order of the edge list,
whatever the number of threads, so results are the same bits. Head count and channels are constants of the
compiled loops, and within a patient the head is the fastest index: one vector register holds all heads.

Exponentials are taken per node instead of per edge. With ``a`` and ``b`` the halves of a score and ``A`` the
largest ``a`` of a patient and head, ``exp(leaky(a + b) - m)`` is ``exp(a - A)`` or ``exp(slope (a - A))``
times a factor of the target alone; ``m = leaky(A + b)`` bounds every score of the target, so no factor
exceeds 1. Where all neighbours of a target lie so far below ``A`` that their sum falls under ``LEAST_TOTAL``,
the target's exponentials are taken one by one.
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
LEAST_TOTAL = np.float32(1e-18)
MOST_DROP = np.float32(-math.log(LEAST_TOTAL))
SLOPE = np.float32(NEGATIVE_SLOPE)
Loop = Callable[..., None]


@numba.njit(**COMPILE)
def exponentials(a, largest, high, low):  # type: ignore[no-untyped-def]
    """Per node and head: ``exp(a - A)`` and ``exp(slope (a - A))``, and ``A`` itself."""
    nodes, heads = a.shape
    largest[:] = -np.inf
    for node in range(nodes):
        for head in range(heads):
            largest[head] = max(largest[head], a[node, head])
    for node in range(nodes):
        for head in range(heads):
            below = a[node, head] - largest[head]
            high[node, head] = math.exp(below)
            low[node, head] = math.exp(below * SLOPE)


@numba.njit(**COMPILE)
def exact(rows, a, b, source, mixed, total, top):  # type: ignore[no-untyped-def]
    """Attend for one target with one exponential for each edge and head."""
    heads = b.shape[0]
    top[:] = -np.inf
    for origin in source:
        for head in range(heads):
            score = a[origin, head] + b[head]
            top[head] = max(top[head], max(score, score * SLOPE))
    total[:] = 0
    mixed[:] = 0
    for origin in source:
        for head in range(heads):
            score = a[origin, head] + b[head]
            weight = math.exp(max(score, score * SLOPE) - top[head])
            total[head] += weight
            for channel in range(head, mixed.shape[0], heads):
                mixed[channel] += weight * rows[origin, channel]


@cache
def head_last(heads: int, channels: int) -> Loop:
    """Compile: lay nodes out with the head as the fastest index."""

    @numba.njit(**COMPILE)
    def run(values, rows):  # type: ignore[no-untyped-def]
        for node in range(values.shape[0]):
            for head in range(heads):
                for channel in range(channels):
                    rows[node, channel * heads + head] = values[node, head * channels + channel]

    return run  # type: ignore[no-any-return]


@cache
def halves(heads: int, channels: int) -> Loop:
    """Compile: one half of every node's score, from rows with the head as the fastest index."""

    @numba.njit(**COMPILE)
    def run(rows, attention, score):  # type: ignore[no-untyped-def]
        vectors = np.empty(heads * channels, rows.dtype)
        for head in range(heads):
            for channel in range(channels):
                vectors[channel * heads + head] = attention[head, channel]
        for node in range(rows.shape[0]):
            for head in range(heads):
                score[node, head] = 0
            for channel in range(channels):
                for head in range(heads):
                    place = channel * heads + head
                    score[node, head] += rows[node, place] * vectors[place]

    return run  # type: ignore[no-any-return]


@cache
def halves_backward(heads: int, channels: int) -> Loop:
    """Compile: hand the gradient of one half of the scores on to rows and attention vectors."""

    @numba.njit(**COMPILE)
    def run(rows, attention, grad_score, grad_rows, grad_attention):  # type: ignore[no-untyped-def]
        hidden = heads * channels
        vectors, change = np.empty(hidden, rows.dtype), np.zeros(hidden, rows.dtype)
        for head in range(heads):
            for channel in range(channels):
                vectors[channel * heads + head] = attention[head, channel]
        for node in range(rows.shape[0]):
            for channel in range(channels):
                for head in range(heads):
                    place = channel * heads + head
                    grad_rows[node, place] += grad_score[node, head] * vectors[place]
                    change[place] += grad_score[node, head] * rows[node, place]
        for head in range(heads):
            for channel in range(channels):
                grad_attention[head, channel] = change[channel * heads + head]

    return run  # type: ignore[no-any-return]


@cache
def attention_forward(heads: int, channels: int) -> Loop:
    """Compile the forward pass for a head count and a width."""
    hidden = heads * channels
    lay_out, score_of = head_last(heads, channels), halves(heads, channels)

    @numba.njit(**COMPILE)
    def run(values, attention, target_score, pointer, source, out, log_total, first, last):  # type: ignore[no-untyped-def]
        sources, targets, kind = values.shape[1], out.shape[1], values.dtype
        rows, b = np.empty((sources, hidden), kind), np.empty((targets, heads), kind)
        a, high, low = (
            np.empty((sources, heads), kind),
            np.empty((sources, heads), kind),
            np.empty((sources, heads), kind),
        )
        largest, total, top = np.empty(heads, kind), np.empty(heads, kind), np.empty(heads, kind)
        up, down, weight = np.empty(heads, kind), np.empty(heads, kind), np.empty(heads, kind)
        mixed = np.empty(hidden, kind)
        for patient in range(first, last):
            vectors = attention[patient if attention.shape[0] > 1 else 0]
            lay_out(values[patient], rows)
            score_of(rows, vectors[:heads], a)
            if vectors.shape[0] > heads:
                score_of(rows, vectors[heads:], b)
            else:
                b[:] = target_score[patient]
            exponentials(a, largest, high, low)
            for target in range(targets):
                begin, end = pointer[target], pointer[target + 1]
                if begin == end:
                    out[patient, target, :] = 0
                    log_total[patient, target, :] = 0
                    continue
                for head in range(heads):
                    score = largest[head] + b[target, head]
                    top[head] = max(score, score * SLOPE)
                    up[head] = math.exp(score - top[head])
                    down[head] = math.exp(score * SLOPE - top[head])
                    total[head] = 0
                for place in range(hidden):
                    mixed[place] = 0
                for edge in range(begin, end):
                    origin = source[edge]
                    for head in range(heads):
                        is_up = a[origin, head] + b[target, head] > 0
                        by_up, by_down = high[origin, head] * up[head], low[origin, head] * down[head]
                        weight[head] = by_up if is_up else by_down
                        total[head] += weight[head]
                    for channel in range(channels):
                        for head in range(heads):
                            place = channel * heads + head
                            mixed[place] += weight[head] * rows[origin, place]
                if total.min() < LEAST_TOTAL:
                    exact(rows, a, b[target], source[begin:end], mixed, total, top)
                for head in range(heads):
                    log_total[patient, target, head] = top[head] + math.log(total[head])
                    share = 1 / total[head]
                    for channel in range(channels):
                        out[patient, target, head * channels + channel] = (
                            mixed[channel * heads + head] * share
                        )

    return run  # type: ignore[no-any-return]


@cache
def attention_backward(heads: int, channels: int) -> Loop:
    """Compile the backward pass, which computes the attention weights again."""
    hidden = heads * channels
    lay_out, score_of = head_last(heads, channels), halves(heads, channels)
    hand_on = halves_backward(heads, channels)

    @numba.njit(**COMPILE)
    def through_edges(  # type: ignore[no-untyped-def]
        rows, a, b, high, low, largest, pointer, source, out, log_total, grad, grad_rows, grad_a, grad_b,
    ):  # fmt: skip
        kind = rows.dtype
        up, down, mean = np.empty(heads, kind), np.empty(heads, kind), np.empty(heads, kind)
        weight, slope, product = np.empty(heads, kind), np.empty(heads, kind), np.empty(heads, kind)
        incoming = np.empty(hidden, kind)
        for target in range(grad.shape[0]):
            one_by_one = False
            for head in range(heads):
                mean[head] = 0
                grad_b[target, head] = 0
                for channel in range(channels):
                    given = grad[target, head * channels + channel]
                    incoming[channel * heads + head] = given
                    mean[head] += given * out[target, head * channels + channel]
                score = largest[head] + b[target, head]
                drop = max(score, score * SLOPE) - log_total[target, head]
                one_by_one = one_by_one or drop > MOST_DROP
                up[head] = math.exp(min(score - log_total[target, head], MOST_DROP))
                down[head] = math.exp(min(score * SLOPE - log_total[target, head], MOST_DROP))
            for edge in range(pointer[target], pointer[target + 1]):
                origin = source[edge]
                for head in range(heads):
                    is_up = a[origin, head] + b[target, head] > 0
                    by_up, by_down = high[origin, head] * up[head], low[origin, head] * down[head]
                    weight[head] = by_up if is_up else by_down
                    slope[head] = 1 if is_up else SLOPE
                    product[head] = 0
                if one_by_one:
                    for head in range(heads):
                        score = (a[origin, head] + b[target, head]) * slope[head]
                        weight[head] = math.exp(score - log_total[target, head])
                for channel in range(channels):
                    for head in range(heads):
                        place = channel * heads + head
                        product[head] += incoming[place] * rows[origin, place]
                        grad_rows[origin, place] += weight[head] * incoming[place]
                for head in range(heads):
                    change = weight[head] * (product[head] - mean[head]) * slope[head]
                    grad_a[origin, head] += change
                    grad_b[target, head] += change

    @numba.njit(**COMPILE)
    def run(  # type: ignore[no-untyped-def]
        values, attention, target_score, pointer, source, out, log_total, grad,
        grad_values, grad_attention, grad_target, first, last,
    ):  # fmt: skip
        sources, targets, kind = values.shape[1], out.shape[1], values.dtype
        rows, grad_rows = np.empty((sources, hidden), kind), np.empty((sources, hidden), kind)
        a, high = np.empty((sources, heads), kind), np.empty((sources, heads), kind)
        low, grad_a = np.empty((sources, heads), kind), np.empty((sources, heads), kind)
        b, grad_b = np.empty((targets, heads), kind), np.empty((targets, heads), kind)
        largest = np.empty(heads, kind)
        for patient in range(first, last):
            vectors = attention[patient if attention.shape[0] > 1 else 0]
            own = vectors.shape[0] > heads
            lay_out(values[patient], rows)
            score_of(rows, vectors[:heads], a)
            if own:
                score_of(rows, vectors[heads:], b)
            else:
                b[:] = target_score[patient]
            exponentials(a, largest, high, low)
            grad_rows[:] = 0
            grad_a[:] = 0
            through_edges(
                rows, a, b, high, low, largest, pointer, source, out[patient], log_total[patient],
                grad[patient], grad_rows, grad_a, grad_b,
            )  # fmt: skip
            hand_on(rows, vectors[:heads], grad_a, grad_rows, grad_attention[patient, :heads])
            if own:
                hand_on(rows, vectors[heads:], grad_b, grad_rows, grad_attention[patient, heads:])
            else:
                grad_target[patient] = grad_b
            for node in range(sources):
                for head in range(heads):
                    for channel in range(channels):
                        grad_values[patient, node, head * channels + channel] = grad_rows[
                            node, channel * heads + head
                        ]

    return run  # type: ignore[no-any-return]
