"""The fused loops of pooling and scoring, compiled by Numba: patient by patient, each wholly by one thread.

Nothing of size edges × patients × channels is stored, and a patient's sums run in the order of the edge list.
"""

from __future__ import annotations

import numba
import numpy as np

from mmfed_common.model.kernels.attention_loops import COMPILE
from mmfed_common.model.kernels.edge_vectors import add_scaled


@numba.njit(**COMPILE)
def best_standing(standing, among):  # type: ignore[no-untyped-def]
    """Highest standing among some sources, and how many have it."""
    best, number = np.float32(0), 0
    for origin in among:
        if standing[origin] > best:
            best, number = standing[origin], 1
        elif standing[origin] == best:
            number += 1
    return best, number


@numba.njit(**COMPILE)
def pool_forward(heads, channels, values, standing, pointer, source, out, first, last):  # type: ignore[no-untyped-def]
    """Mean over the sources with a target's highest standing.

    ``heads`` and ``channels`` are tuples whose lengths give the width when multiplied.
    """
    share = np.empty((1, len(heads)), np.float32)
    for patient in range(first, last):
        own, own_standing, result = values[patient], standing[patient], out[patient]
        result[:] = 0
        for target in range(pointer.shape[0] - 1):
            among = source[pointer[target] : pointer[target + 1]]
            best, number = best_standing(own_standing, among)
            if best == 0:
                continue
            share[:] = np.float32(1) / np.float32(number)
            for origin in among:
                if own_standing[origin] == best:
                    add_scaled(heads, channels, share, 0, own, origin, result, target)


@numba.njit(**COMPILE)
def pool_backward(heads, channels, standing, pointer, source, grad, grad_values, first, last):  # type: ignore[no-untyped-def]
    """Hand each pool's gradient back to the sources it was the mean of."""
    share = np.empty((1, len(heads)), np.float32)
    for patient in range(first, last):
        own_standing, own, result = standing[patient], grad[patient], grad_values[patient]
        result[:] = 0
        for target in range(pointer.shape[0] - 1):
            among = source[pointer[target] : pointer[target + 1]]
            best, number = best_standing(own_standing, among)
            if best == 0:
                continue
            share[:] = np.float32(1) / np.float32(number)
            for origin in among:
                if own_standing[origin] == best:
                    add_scaled(heads, channels, share, 0, own, target, result, origin)


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
