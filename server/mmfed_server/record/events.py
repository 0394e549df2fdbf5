"""The run's diary: one JSON object a line, flushed to the disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

EVENTS_FILE = "events.jsonl"


class EventLog:
    """Appends events; can be cut back to where a round was committed.

    Parameters
    ----------
    path
        The file; it is made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "ab")  # noqa: SIM115 - stays open for the run, closed by close()

    @property
    def length(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def cut(self, length: int) -> None:
        """Forget what was written after ``length`` bytes."""
        self._file.truncate(length)
        self._file.seek(0, os.SEEK_END)

    def write(self, event: str, **details: Any) -> None:
        """Append one event with the time in UTC."""
        record = {"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **details}
        self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def flush(self) -> None:
        """Flush to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of the diary of a run that has ended."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)
