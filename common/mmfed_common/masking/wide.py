"""Sums of features in the ring of 128-bit integers: their sizes are not known beforehand as those of changes.

A number is rounded to a multiple of 2⁻⁵⁶. Sums are exact in fixed point and cannot overflow with 10⁴ sites
whose numbers are below 2⁵⁷ each. A vector is an array of 64-bit integers, low and high half in turns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmfed_common.masking.stream import NUMBER_BYTES, Mask, Stream, Vector

FRACTION_BITS = 56
LARGEST = 2.0**57
HALVES = 2
WHOLE = 2**128


def encode_wide(values: NDArray[np.float64]) -> Vector:
    """Write numbers as wide ones; the result has twice as many items.

    Raises
    ------
    ValueError
        When a number is not finite, or too large for sums.
    """
    flat = values.reshape(-1)
    if not bool((np.abs(flat) < LARGEST).all()):
        raise ValueError(f"a sum is not finite, or is {LARGEST:.3g} or more: use a larger unit")
    parts = b"".join(
        (int(number * 2.0**FRACTION_BITS) % WHOLE).to_bytes(HALVES * NUMBER_BYTES, "little")
        for number in flat.tolist()
    )
    return np.frombuffer(parts, "<i8").astype(np.int64)


def decode_wide(total: Vector) -> NDArray[np.float64]:
    """Undo :func:`encode_wide`."""
    content, size = total.astype("<i8").tobytes(), HALVES * NUMBER_BYTES
    numbers = (
        int.from_bytes(content[at : at + size], "little", signed=True) for at in range(0, len(content), size)
    )
    return np.array([number / 2**FRACTION_BITS for number in numbers], np.float64)


def add_wide(total: Vector, other: Vector, *, negative: bool = False) -> None:
    """Add a vector to another in place, or take it away, modulo 2¹²⁸ number by number."""
    into, added = total.view(np.uint64).reshape(-1, HALVES), other.view(np.uint64).reshape(-1, HALVES)
    low, high = added[:, 0], added[:, 1]
    if negative:
        low, high = ~low + np.uint64(1), ~high + (low == 0)
    into[:, 0] += low
    into[:, 1] += high + (into[:, 0] < low)


def add_wide_masks(vector: Vector, masks: Sequence[Mask]) -> None:
    """Add streams to a vector of wide numbers in place, or take them away."""
    zeros = memoryview(bytes(NUMBER_BYTES * vector.size))
    drawn = bytearray(len(zeros) + 16)
    for mask in masks:
        stream = Stream(mask.seed).draw(zeros, drawn).astype(np.int64)
        add_wide(vector, stream, negative=mask.negative)
