"""Named tensors as Flower array records, and back without trusting the sender.

Flower stores an array as the bytes of a ``.npy`` file. The header inside those bytes is what counts, and it
comes from another machine: it is compared with what is expected before anything is allocated.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, Literal

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from flwr.common.constant import SType
from numpy.typing import NDArray
from torch import Tensor

PREAMBLE = 10
"""Bytes before the text of a header: magic, version, length."""
HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)"
    rb"\{'descr': '(?P<type>[<>|=][a-z]\d{1,2})', 'fortran_order': (?P<columns>True|False), "
    rb"'shape': \((?P<shape>[0-9, ]{0,200})\), \} {0,200}\n",
    re.DOTALL,
)
"""What ``numpy.save`` writes before the numbers (NEP 1, version 1.0). NumPy's own reader evaluates the text
with Python's parser, which is more than a stranger's bytes should reach."""

BLOCK = 2**20
"""How many numbers of an array are worked on at a time, where a copy of all of them would be too much."""

Shapes = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Name → shape and type of each tensor that is expected."""


Difference = Literal["names", "bytes", "shape", "values"]
"""What about arrays was not as expected."""


class UnexpectedArraysError(ValueError):
    """Arrays differ from what was expected; the text names arrays, shapes and types, never values.

    Attributes
    ----------
    difference
        In which respect; ``"shape"`` stands for the type, too.
    """

    def __init__(self, text: str, difference: Difference) -> None:
        super().__init__(text)
        self.difference = difference


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Describe tensors by name, shape and type."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def digest_of(arrays: Mapping[str, Tensor]) -> bytes:
    """SHA-256 over names, shapes, types and numbers, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        tensor = arrays[name].detach().cpu().contiguous()
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(tensor.numpy().data)
    return found.digest()


def to_record(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Make a record, sorted by name so that equal tensors give equal records."""
    arrays = {}
    for name in sorted(tensors):
        array = np.asarray(tensors[name].detach().cpu().contiguous().numpy(), order="C")
        arrays[name] = _as_flowers(array)
    return ArrayRecord(arrays)


def _as_flowers(array: NDArray[Any]) -> Array:
    """What Flower makes of an array, byte for byte, with one copy of its numbers instead of two."""
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    data = b"".join((head.getvalue(), array.reshape(-1).data))
    return Array(dtype=str(array.dtype), shape=tuple(array.shape), stype=SType.NUMPY, data=data)


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
    return dict(each_of_record(record, expected, finite=finite))


def each_of_record(
    record: Mapping[str, Array], expected: Shapes, *, finite: bool = True
) -> Iterator[tuple[str, Tensor]]:
    """Read a record as :func:`from_record` does, one array after another in the order of their names.

    Raises
    ------
    UnexpectedArraysError
        At the first array that is wrong; those before it were given already.
    """
    for name, view in each_view(record, expected, finite=finite):
        yield name, torch.from_numpy(view.copy())


def each_view(
    record: Mapping[str, Array], expected: Shapes, *, finite: bool = True
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Look at the arrays of a record as :func:`each_of_record` does, in the bytes that came: no copy is made.

    Raises
    ------
    UnexpectedArraysError
        At the first array that is wrong; those before it were given already.
    """
    missing, unknown = set(expected) - set(record), set(record) - set(expected)
    if missing or unknown:
        text = f"{len(missing)} arrays are missing and {len(unknown)} are unknown"
        raise UnexpectedArraysError(text, "names")
    for name in sorted(expected):
        shape, dtype = expected[name]
        view = _decode(name, record[name].data, shape, dtype)
        if finite and not all_finite(view):
            raise UnexpectedArraysError(f"array {name} holds a value that is not finite", "values")
        yield name, view


def all_finite(array: NDArray[Any]) -> bool:
    """Whether no number is NaN or infinite."""
    return all(bool(np.isfinite(block).all()) for block in blocks(array))


def blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Give an array's numbers, flat, some at a time; nothing is copied of a contiguous one."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        yield flat[start : start + BLOCK]


def payload_bytes(record: ArrayRecord) -> int:
    """Bytes of the arrays of a record as they are sent."""
    return sum(len(array.data) for array in record.values())


def _decode(name: str, data: bytes, shape: tuple[int, ...], dtype: torch.dtype) -> NDArray[Any]:
    wanted = torch.empty(0, dtype=dtype).numpy().dtype
    header = HEADER.match(data)
    if header is None or len(header[0]) != PREAMBLE + int.from_bytes(header["length"], "little"):
        raise UnexpectedArraysError(f"array {name} cannot be read", "bytes")
    found_shape = tuple(int(size) for size in header["shape"].decode().split(",") if size.strip())
    if found_shape != shape:
        raise UnexpectedArraysError(f"array {name} has shape {found_shape} instead of {shape}", "shape")
    if header["type"].decode() != wanted.str:
        text = f"array {name} has type {header['type'].decode()} instead of {wanted.str}"
        raise UnexpectedArraysError(text, "shape")
    by_columns = header["columns"] == b"True" and len(shape) > 1
    if by_columns or len(data) - header.end() != math.prod(shape) * wanted.itemsize:
        raise UnexpectedArraysError(f"array {name} has another order or length than it should", "bytes")
    return np.frombuffer(data, dtype=wanted, count=math.prod(shape), offset=header.end()).reshape(shape)
