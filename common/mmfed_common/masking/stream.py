"""Masks: long streams of 64-bit numbers from 32-byte seeds, added to a vector modulo 2⁶⁴.

AES-256 in counter mode, as in Bonawitz et al. 2017. The counter is that of GCM with a nonce of zeros (NIST SP
800-38D), whose tag nobody reads: of GCM the libraries have code for the widest registers, of plain counter
mode they do not, and the same stream comes twice as fast. A seed is used for one stream only, so that the
nonce may be the same always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from mmfed_common.threads import cores, share_out

Vector = NDArray[np.int64]

BLOCK = 2**16
"""How many numbers of a stream are drawn at a time: they stay in the processor's cache."""
PIECE = 2**19
"""How many numbers of a vector several threads work on before they add what they have."""
NUMBER_BYTES = 8
LEAST_SHARED = 2**14
"""Below so many numbers more threads cost more than they save."""


class Mask(NamedTuple):
    """A stream to add, or to take away.

    Attributes
    ----------
    seed
        32 bytes of chance, for this stream only.
    negative
        Whether it is taken away.
    """

    seed: bytes
    negative: bool = False


AddsMasks = Callable[[Vector, Sequence[Mask]], None]
"""Adds masks to a vector in place, in some ring."""


class Stream:
    """The numbers of a seed, from the first on."""

    def __init__(self, seed: bytes) -> None:
        self._encryptor = Cipher(algorithms.AES(seed), modes.GCM(bytes(12))).encryptor()

    def draw(self, zeros: memoryview, into: bytearray) -> Vector:
        """Write the next ``len(zeros)`` bytes and give them as numbers; ``into`` has 16 more at the end."""
        self._encryptor.update_into(zeros, into)
        return np.frombuffer(into, "<i8", len(zeros) // NUMBER_BYTES)


def add_masks(vector: Vector, masks: Sequence[Mask], *, threads: int = 0) -> None:
    """Add streams to a vector in place, or take them away; sums wrap around.

    Parameters
    ----------
    threads
        How many share the streams; 0: as many as there are cores. The result is the same.
    """
    streams = [(Stream(mask.seed), mask.negative) for mask in masks]
    threads = min(threads or cores(), len(masks))
    if threads < 2 or vector.size < LEAST_SHARED:
        _add(vector, streams)
        return
    others = [np.empty(min(PIECE, vector.size), np.int64) for _ in range(threads - 1)]
    for piece in _parts(vector, PIECE):
        sums = [piece, *(other[: piece.size] for other in others)]
        for zero in sums[1:]:
            zero.fill(0)
        share_out(partial(_add_share, sums, streams), threads, threads)
        for found in sums[1:]:
            np.add(piece, found, out=piece)


def _add_share(sums: Sequence[Vector], streams: Sequence[tuple[Stream, bool]], first: int, last: int) -> None:
    """Let each of some vectors have its share of the streams."""
    for place in range(first, last):
        _add(sums[place], streams[place :: len(sums)])


def _add(vector: Vector, streams: Sequence[tuple[Stream, bool]]) -> None:
    zeros = memoryview(bytes(NUMBER_BYTES * min(BLOCK, vector.size)))
    drawn = bytearray(len(zeros) + 16)
    for block in _parts(vector, BLOCK):
        wanted = zeros[: NUMBER_BYTES * block.size]
        for stream, negative in streams:
            apply = np.subtract if negative else np.add
            apply(block, stream.draw(wanted, drawn), out=block)


def _parts(vector: Vector, size: int) -> Iterator[Vector]:
    for start in range(0, vector.size, size):
        yield vector[start : start + size]
