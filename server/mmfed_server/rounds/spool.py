"""Updates of a round, on the disk until all are there: what the server holds does not grow with the sites.

An update's file has no name from the moment it is opened, so that it is gone with the process, whatever ends
it. The arrays lie in it one after another, sorted by name, so that the files of all sites can be read side by
side.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmfed_common.arrays import Shapes, blocks

Arrays = NDArray[Any]

PIECE = 2**18
"""Most numbers of an array that are averaged at a time."""


@dataclass(frozen=True)
class SpooledUpdate:
    """An update that was checked.

    Attributes
    ----------
    site, num_examples, loss, seconds, bytes
        Whose; on how many patients; the site's mean loss, seconds of work and bytes of arrays.
    norm
        Euclidean length of its difference from the weights that were sent.
    digest
        SHA-256 of its arrays.
    file
        The arrays.
    """

    site: str
    num_examples: int
    loss: float
    seconds: float
    bytes: int
    norm: float
    digest: str
    file: BinaryIO

    def close(self) -> None:
        """Forget the arrays."""
        self.file.close()


@dataclass(frozen=True)
class WrittenArrays:
    """What is known of arrays once they are on the disk; see :class:`SpooledUpdate`."""

    norm: float
    digest: str
    file: BinaryIO


@dataclass(frozen=True)
class Piece:
    """Some numbers of an array, so that large arrays never are in memory more often than they must.

    Attributes
    ----------
    name
        Of the array.
    start
        Where in the array, flat, they begin; None when ``values`` is the whole array in its shape.
    values
        The numbers.
    """

    name: str
    start: int | None
    values: Arrays

    def of(self, whole: Arrays) -> Arrays:
        """The same numbers of another array of this name: not a copy."""
        if self.start is None:
            return whole
        return whole.reshape(-1)[self.start : self.start + self.values.size]


def write_arrays(
    folder: Path, arrays: Iterable[tuple[str, Arrays]], start: Mapping[str, Tensor]
) -> WrittenArrays:
    """Write arrays, which come sorted by name and may raise where one is wrong.

    Parameters
    ----------
    start
        The weights that were sent, for the length of the difference.

    Raises
    ------
    OSError
        When the disk is full; nothing is left behind.
    """
    file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed when the round ends
    digest, square = hashlib.sha256(), 0.0
    try:
        for name, array in arrays:
            for block, sent in zip(blocks(array), blocks(start[name].numpy()), strict=True):
                digest.update(block.data)
                file.write(block.data)
                difference = torch.from_numpy(np.subtract(block, sent, dtype=np.float64))
                square += float(difference.square_().sum())
        file.flush()
    except BaseException:
        file.close()
        raise
    return WrittenArrays(math.sqrt(square), digest.hexdigest(), file)


def mean_of(updates: Sequence[SpooledUpdate], shapes: Shapes) -> Iterator[Piece]:
    """The mean of updates, weighted by patients: one piece at a time, in the order of the arrays' names.

    The arithmetic is that of Flower's ``aggregate_arrayrecords``, operation by operation, so that the bits
    are the same: each array times its share of the patients, added in the order given.
    """
    total = sum(update.num_examples for update in updates)
    shares = [update.num_examples / total for update in updates]
    for update in updates:
        update.file.seek(0)
    for name in sorted(shapes):
        shape, dtype = shapes[name]
        size = math.prod(shape)
        for start in range(0, max(size, 1), PIECE):
            part = shape if size <= PIECE else (min(PIECE, size - start),)
            mean: Arrays | None = None
            for update, share in zip(updates, shares, strict=True):
                term = _next_numbers(update.file, part, dtype) * share
                if mean is None:
                    mean = term
                else:
                    mean += term
                del term
            if mean is not None:
                yield Piece(name, None if size <= PIECE else start, np.asarray(mean))


def digest_of(tensors: Mapping[str, Tensor], names: Iterable[str]) -> str:
    """SHA-256 of some tensors, as :func:`write_arrays` computes it."""
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _next_numbers(file: BinaryIO, shape: tuple[int, ...], dtype: torch.dtype) -> Arrays:
    kind = torch.empty(0, dtype=dtype).numpy().dtype
    content = file.read(math.prod(shape) * kind.itemsize)
    return np.frombuffer(content, dtype=kind).reshape(shape)
