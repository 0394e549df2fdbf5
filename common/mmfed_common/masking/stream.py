"""Masks: long streams of 64-bit numbers from a 32-byte seed, added to a vector modulo 2⁶⁴.

AES-256 in counter mode, as in Bonawitz et al. 2017: with the instructions that processors have for it, it is
the fastest that `cryptography` offers. A seed is used for one stream only, so that the counter begins at 0.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

Vector = NDArray[np.int64]


class AddsMask(Protocol):
    """Adds the stream of a seed to a vector in place, or takes it away, in some ring."""

    def __call__(self, vector: Vector, seed: bytes, *, negative: bool = False) -> None:
        """Add, or take away."""


BLOCK = 2**16
"""How many numbers are drawn at a time: they stay in the processor's cache."""
NUMBER_BYTES = 8


def add_mask(vector: Vector, seed: bytes, *, negative: bool = False) -> None:
    """Add the stream of a seed to a vector in place, or take it away; sums wrap around."""
    encryptor = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    zeros = memoryview(bytes(NUMBER_BYTES * min(BLOCK, vector.size)))
    drawn = bytearray(len(zeros) + 16)
    apply = np.subtract if negative else np.add
    for start in range(0, vector.size, BLOCK):
        block = vector[start : start + BLOCK]
        encryptor.update_into(zeros[: NUMBER_BYTES * block.size], drawn)
        apply(block, np.frombuffer(drawn, "<i8", block.size), out=block)
