"""The notice board: what the process is doing, kept in memory and in ``status.json`` for others to read."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from mmfed_common.durable import write_status
from mmfed_common.error_codes import CODES
from mmfed_server.monitoring import Metrics

STATUS_FILE = "status.json"
State = Literal["idle", "waiting", "running", "finished", "failed", "stopped"]
"""``idle``: no study. ``waiting``: for sites. ``stopped``: on purpose; the other words say what they mean."""


class Board:
    """Collects what is known; any thread may write to it.

    Parameters
    ----------
    folder
        The federation's folder.
    metrics
        Told of each state.
    """

    def __init__(self, folder: Path, metrics: Metrics) -> None:
        self.path = folder / STATUS_FILE
        self.metrics = metrics
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._changed = True
        self._content: dict[str, Any] = {
            "pid": os.getpid(),
            "started": _now(),
            "state": "idle",
            "since": _now(),
        }

    def set_state(self, state: State, code: str = "", reason: str = "", **details: Any) -> None:
        """Say how the run stands, and write it at once; on a full disk, as soon as there is room.

        Parameters
        ----------
        code, reason
            Why, when it failed or waits.
        """
        next_step = CODES[code].next_step if code in CODES else ""
        self.note(
            state=state, since=_now(), code=code, reason=reason, next_step=next_step, details=dict(details)
        )
        self.metrics.set_state(state)
        with suppress(OSError):  # the keeper writes it with its next look, and tells what is in the way
            self.write()

    def note(self, **facts: Any) -> None:
        """Keep facts; they are written at the next :meth:`write`."""
        with self._lock:
            for key, value in facts.items():
                if self._content.get(key) != value:
                    self._content[key] = value
                    self._changed = True

    def get(self, key: str) -> Any:
        """Look at one fact."""
        with self._lock:
            return self._content.get(key)

    def write(self) -> None:
        """Write ``status.json`` if anything changed.

        Raises
        ------
        OSError
            As the operating system gives it; it is written at the next call then.
        """
        with self._writing:
            with self._lock:
                if not self._changed:
                    return
                self._changed = False
                content = json.dumps({**self._content, "updated": _now()}, indent=1, ensure_ascii=False)
            try:
                write_status(self.path, content)
            except OSError:
                with self._lock:
                    self._changed = True
                raise


def read_board(folder: Path) -> dict[str, Any]:
    """Read what a process wrote last; empty when none ever did."""
    try:
        content: dict[str, Any] = json.loads((folder / STATUS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
