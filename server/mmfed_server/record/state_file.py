"""One file that holds a run's state: a safetensors file whose header also carries the rest as JSON.

The file is written tensor by tensor, so that writing a state takes no second copy of it in memory. No pickle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmfed_common.errors import StudyError
from mmfed_server.record.state import RunState, SiteTotals

TENSOR_GROUPS = ("weights", "best_weights", "scaling", "first_moment", "second_moment")
TYPE_NAMES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}
"""Types of tensors that a state may hold, as the safetensors format calls them."""


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
        with safe_open(path, framework="pt") as file:
            rest = json.loads(file.metadata()["state"])
            for key in file.keys():  # noqa: SIM118 - not a mapping
                group, _, name = key.partition("/")
                groups[group][name] = file.get_tensor(key).clone()
        rest["sites"] = {name: SiteTotals(**totals) for name, totals in rest["sites"].items()}
        return RunState(**{**rest, **groups})
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StudyError("MMF-509", f"the state cannot be read: {error}", str(path)) from None
