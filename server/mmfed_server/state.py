"""The record of a run: everything that the next round depends on, committed in one step after each round.

One safetensors file holds the tensors and, in its header, the rest as JSON. It is replaced by a rename, so
that at any moment the file is the whole state after some round. No pickle.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmfed_common.durable import write_durably
from mmfed_common.errors import StudyError

STATE_FOLDER = "state"
TENSOR_GROUPS = ("weights", "best_weights", "scaling", "first_moment", "second_moment")


@dataclass
class SiteTotals:
    """What one site did in a run: rounds taken, seconds of work, bytes of arrays each way, refusals."""

    patients: int = 0
    below_floor: bool = False
    rounds: int = 0
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    refusals: int = 0
    last_refusal: str = ""


@dataclass
class RunState:
    """The state of a run between two rounds.

    Attributes
    ----------
    study_hash
        Whose run this is.
    next_round
        The round to begin next, counted from 1.
    weights
        Global weights.
    first_moment, second_moment
        Flower's ``m_t`` and ``v_t`` of the stage that ``next_round`` goes on with; empty without them.
    scaling
        The federated scaling, as named tensors; empty where the study has none.
    best_weights, best_loss, waited
        Early stopping within the stage: best weights, their validation loss, rounds since.
    history
        One entry for each round.
    sites
        Totals by site.
    events_length
        Bytes of the diary at the time of the commit.
    finished
        Whether the last round has been committed.
    """

    study_hash: str
    next_round: int
    weights: dict[str, Tensor]
    first_moment: dict[str, Tensor] = field(default_factory=dict)
    second_moment: dict[str, Tensor] = field(default_factory=dict)
    scaling: dict[str, Tensor] = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float | None = None
    waited: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    sites: dict[str, SiteTotals] = field(default_factory=dict)
    events_length: int = 0
    finished: bool = False


class StateFile:
    """Reads and commits the state of the run in a folder.

    Parameters
    ----------
    folder
        The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / STATE_FOLDER
        self.path = self.folder / "round.safetensors"
        self.weights_path = self.folder / "weights.safetensors"
        self.status_path = self.folder / "status.json"

    def commit(self, state: RunState) -> None:
        """Replace the state by this one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{group}/{name}": tensor.clone(memory_format=torch.contiguous_format)
            for group in TENSOR_GROUPS
            for name, tensor in getattr(state, group).items()
        }
        rest = {k: v for k, v in vars(state).items() if k not in TENSOR_GROUPS}
        rest["sites"] = {name: vars(totals) for name, totals in state.sites.items()}
        write_durably(self.path, safetensors.torch.save(tensors, {"state": json.dumps(rest)}))

    def load(self) -> RunState | None:
        """Read the state; None when no round has been committed.

        Raises
        ------
        StudyError
            ``MMF-509`` when the file is damaged.
        """
        if not self.path.exists():
            return None
        groups: dict[str, dict[str, Tensor]] = {group: {} for group in TENSOR_GROUPS}
        try:
            with safe_open(self.path, framework="pt") as file:
                rest = json.loads(file.metadata()["state"])
                for key in file.keys():  # noqa: SIM118 - not a mapping
                    group, _, name = key.partition("/")
                    groups[group][name] = file.get_tensor(key).clone()
            rest["sites"] = {name: SiteTotals(**totals) for name, totals in rest["sites"].items()}
            return RunState(**{**rest, **groups})
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise StudyError("MMF-509", f"the state cannot be read: {error}", str(self.path)) from None

    def write_weights(self, state: RunState) -> None:
        """Write the final weights on their own, as the bundle takes them."""
        tensors = {name: tensor.contiguous() for name, tensor in state.weights.items()}
        write_durably(self.weights_path, safetensors.torch.save(tensors))

    def write_status(self, status: str, code: str = "", reason: str = "") -> None:
        """Say in a small file how the run stands: ``prepared``, ``running``, ``finished`` or ``failed``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"status": status, "code": code, "reason": reason}
        write_durably(self.status_path, json.dumps(content).encode())

    def status(self) -> str:
        """Read the word of the status file; empty when there is none."""
        if not self.status_path.exists():
            return ""
        return str(json.loads(self.status_path.read_text())["status"])
