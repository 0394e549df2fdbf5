"""The record of a run in a folder, as a simulation keeps it.

    state/round.safetensors     the state after the last whole round
    state/weights.safetensors   the final weights
    state/status.json           how the run stands
    state/opened.json           the sites whose masked sum was opened last, and in which round
    state/spool/                updates of the round that is under way
    events.jsonl                the diary

The state is replaced by a rename, so that at any moment the file is the whole state after some round.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from mmfed_common.durable import replace_durably, write_durably
from mmfed_server.record.events import EVENTS_FILE, EventLog
from mmfed_server.record.record import RunStatus
from mmfed_server.record.state import RunState
from mmfed_server.record.state_file import read_state, write_state, write_tensors

STATE_FOLDER = "state"


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
        self.opened_path = self.folder / "opened.json"

    def commit(self, state: RunState) -> None:
        """Replace the state by this one."""
        self._replace(self.path, lambda file: write_state(file, state))

    def load(self) -> RunState | None:
        """Read the state; None when no round has been committed.

        Raises
        ------
        StudyError
            ``MMF-509`` when the file is damaged.
        """
        return read_state(self.path) if self.path.exists() else None

    def write_weights(self, state: RunState) -> None:
        """Write the final weights on their own, as the bundle takes them."""
        self._replace(self.weights_path, lambda file: write_tensors(file, state.weights, {"format": "pt"}))

    def write_status(self, status: RunStatus, code: str = "", reason: str = "", **details: Any) -> None:
        """Say in a small file how the run stands."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"status": status, "code": code, "reason": reason, **details}
        write_durably(self.status_path, json.dumps(content).encode())

    def status(self) -> str:
        """Read the word of the status file; empty when there is none."""
        if not self.status_path.exists():
            return ""
        return str(json.loads(self.status_path.read_text())["status"])

    def note_opened(self, round_number: int, sites: tuple[str, ...]) -> None:
        """Say in a small file whose masked sum is about to be opened."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_durably(self.opened_path, json.dumps({"round": round_number, "sites": sites}).encode())

    def opened(self, round_number: int) -> tuple[str, ...]:
        """Read whose sum was opened in a round; empty when the file is of another."""
        if not self.opened_path.exists():
            return ()
        found = json.loads(self.opened_path.read_text())
        return tuple(found["sites"]) if found["round"] == round_number else ()

    def _replace(self, path: Path, write: Callable[[BinaryIO], None]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_durably(path, write)


class FolderRecord:
    """A run's record in its folder; see :class:`~mmfed_server.record.record.RunRecord`.

    Parameters
    ----------
    folder
        The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.files = StateFile(folder)
        self.events_path = folder / EVENTS_FILE
        self._events: EventLog | None = None

    @property
    def events(self) -> EventLog:
        """The diary, opened when it is first needed."""
        if self._events is None:
            self._events = EventLog(self.events_path)
        return self._events

    def load(self) -> RunState | None:
        """Read the state; None when no round has been committed."""
        return self.files.load()

    def rewind(self, state: RunState | None) -> None:
        """Cut the diary back to where the state was committed."""
        self.events.cut(state.events_length if state is not None else 0)

    def commit(self, state: RunState) -> None:
        """Flush the diary, then replace the state."""
        self.events.flush()
        state.events_length = self.events.length
        self.files.commit(state)

    def finish(self, state: RunState) -> None:
        """Write the final weights."""
        self.files.write_weights(state)
        shutil.rmtree(self.files.folder / "spool", ignore_errors=True)

    def write_status(self, status: RunStatus, code: str = "", reason: str = "", **details: Any) -> None:
        """Replace the status file."""
        self.files.write_status(status, code, reason, **details)

    def event(self, event: str, **details: Any) -> None:
        """Append a line to the diary."""
        self.events.write(event, **details)

    def note_opened(self, round_number: int, sites: tuple[str, ...]) -> None:
        """Write ``state/opened.json``."""
        self.files.note_opened(round_number, sites)

    def opened(self, round_number: int) -> tuple[str, ...]:
        """Read ``state/opened.json``."""
        return self.files.opened(round_number)

    def spool(self) -> Path:
        """Give ``state/spool``, emptied."""
        return empty_folder(self.files.folder / "spool")

    def close(self) -> None:
        """Close the diary."""
        if self._events is not None:
            self._events.close()
            self._events = None


def empty_folder(path: Path) -> Path:
    """Make a folder that holds nothing and that only its owner may read."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True, mode=0o700)
    return path
