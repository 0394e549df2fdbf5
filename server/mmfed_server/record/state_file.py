"""One file that holds a run's state: a safetensors file whose header also carries the rest as JSON.

The file is written and read tensor by tensor, so that neither takes a second copy of a state in memory. It is
not mapped, as pages of a mapped file would be one. No pickle.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mmfed_common.errors import StudyError
from mmfed_server.record.state import RunState, SiteTotals

TENSOR_GROUPS = ("weights", "tail", "best_weights", "scaling", "first_moment", "second_moment")
TYPE_NAMES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}
"""Types of tensors that a state may hold, as the safetensors format calls them."""
TYPES = {name: dtype for dtype, name in TYPE_NAMES.items()}
LENGTH = 8
MOST_HEADER = 100_000_000
"""Bytes; as in the safetensors format's own library."""


def write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write the safetensors format: the header's length, the header, the tensors one after another.

    Parameters
    ----------
    tensors
        On the CPU; float32, float64 or int64.

    Raises
    ------
    KeyError
        When a tensor is of another type.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # keeps each aligned
    for name in order:
        tensor = tensors[name]
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": TYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in order:
        file.write(tensors[name].detach().contiguous().reshape(-1).numpy().data)


def write_state(file: BinaryIO, state: RunState) -> None:
    """Write a state."""
    tensors = {
        f"{group}/{name}": tensor for group in TENSOR_GROUPS for name, tensor in getattr(state, group).items()
    }
    rest = {key: value for key, value in vars(state).items() if key not in TENSOR_GROUPS}
    rest["sites"] = {name: vars(totals) for name, totals in state.sites.items()}
    write_tensors(file, tensors, {"state": json.dumps(rest)})


def read_state(path: Path) -> RunState:
    """Read a state.

    Raises
    ------
    StudyError
        ``MMF-509`` when the file is damaged.
    """
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in TENSOR_GROUPS}
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            header = _read_header(file, size)
            rest = json.loads(header.pop("__metadata__")["state"])
            for key, tensor in _tensors(file, header, size):
                group, _, name = key.partition("/")
                groups[group][name] = tensor
        rest["sites"] = {name: SiteTotals(**totals) for name, totals in rest["sites"].items()}
        return RunState(**{**rest, **groups})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudyError("MMF-509", f"the state cannot be read: {error}", str(path)) from None


def _read_header(file: BufferedReader, size: int) -> dict[str, Any]:
    length = int.from_bytes(file.read(LENGTH), "little")
    if not 0 < length <= min(MOST_HEADER, size - LENGTH):
        raise ValueError("its header has no possible length")
    header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is none")
    return header


def _tensors(file: BufferedReader, header: Mapping[str, Any], size: int) -> Iterator[tuple[str, Tensor]]:
    """Give the tensors in the order of the file, each read into memory of its own; all bytes must be used."""
    begin = at = file.tell()
    for key, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, (start, end) = TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if any(type(number) is not int or number < 0 for number in (*shape, start, end)):
            raise ValueError("a size in its header is none")
        bytes_ = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
        if begin + start != at or end - start != bytes_ or begin + end > size:
            raise ValueError("its tensors do not lie one after another")
        tensor = torch.empty(shape, dtype=dtype)
        if file.readinto(tensor.reshape(-1).numpy().data.cast("B")) != bytes_:
            raise ValueError("it is too short")
        at += bytes_
        yield key, tensor
    if at != size:
        raise ValueError("it is too long")
