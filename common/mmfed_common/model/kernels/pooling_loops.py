"""The fused loops of pooling and scoring, compiled by Numba: patient by patient, each wholly by one thread.

Nothing of size edges × patients × channels is stored, and a patient's sums run in the order of the edge list.
"""

from __future__ import annotations

import numba
import numpy as np

from mmfed_common.model.kernels.attention_loops import COMPILE


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
