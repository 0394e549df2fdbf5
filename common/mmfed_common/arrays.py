"""Named tensors as Flower array records, and back without trusting the sender.

Flower stores an array as the bytes of a ``.npy`` file. The header inside those bytes is what counts, and it
comes from another machine: it is compared with what is expected before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

Shapes = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Name → shape and type of each tensor that is expected."""


class UnexpectedArraysError(ValueError):
    """Arrays differ from what was expected; the text names arrays, shapes and types, never values."""


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Describe tensors by name, shape and type."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def to_record(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Make a record, sorted by name so that equal tensors give equal records."""
    arrays = {}
    for name in sorted(tensors):
        array = np.asarray(tensors[name].detach().cpu().contiguous().numpy(), order="C")
        arrays[name] = Array(array)
    return ArrayRecord(arrays)


def from_record(record: Mapping[str, Array], expected: Shapes, *, finite: bool = True) -> dict[str, Tensor]:
    """Read a record that must hold exactly the expected arrays.

    Parameters
    ----------
    record
        From another machine.
    expected
        Name → shape and type.
    finite
        Whether NaN and infinities are refused.

    Raises
    ------
    UnexpectedArraysError
        When names, shapes or types differ, the bytes are not an array, or a value is not finite.
    """
    missing, unknown = set(expected) - set(record), set(record) - set(expected)
    if missing or unknown:
        raise UnexpectedArraysError(f"{len(missing)} arrays are missing and {len(unknown)} are unknown")
    tensors = {}
    for name in sorted(expected):
        shape, dtype = expected[name]
        tensors[name] = _decode(name, record[name].data, shape, dtype)
        if finite and not bool(torch.isfinite(tensors[name]).all()):
            raise UnexpectedArraysError(f"array {name} holds a value that is not finite")
    return tensors


def payload_bytes(record: ArrayRecord) -> int:
    """Bytes of the arrays of a record as they are sent."""
    return sum(len(array.data) for array in record.values())


def _decode(name: str, data: bytes, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    stream = BytesIO(data)
    wanted = torch.empty(0, dtype=dtype).numpy().dtype
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise UnexpectedArraysError(f"array {name} is of an unknown format")
        found_shape, fortran, found = np.lib.format.read_array_header_1_0(stream)
    except (ValueError, EOFError) as error:
        if isinstance(error, UnexpectedArraysError):
            raise
        raise UnexpectedArraysError(f"array {name} cannot be read") from None
    if found_shape != shape:
        raise UnexpectedArraysError(f"array {name} has shape {found_shape} instead of {shape}")
    if found != wanted:
        raise UnexpectedArraysError(f"array {name} has type {found} instead of {wanted}")
    body = data[stream.tell() :]
    if (fortran and len(shape) > 1) or len(body) != int(np.prod(shape)) * wanted.itemsize:
        raise UnexpectedArraysError(f"array {name} has another length than its shape says")
    return torch.from_numpy(np.frombuffer(body, dtype=wanted).reshape(shape).copy())
