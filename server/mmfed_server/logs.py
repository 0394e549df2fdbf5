"""The coordinator's log: one JSON object a line, in a file that is turned over before it grows large.

No patient is known to the coordinator, so none can be in its log. Keys and secrets are never logged.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

LOG_FILE = "log.jsonl"
NAME = "mmfed_server"
MOST_BYTES = 10 * 2**20
KEPT_FILES = 5
DETAILS = "details"


class JsonLines(logging.Formatter):
    """Writes a record as one JSON object: time (UTC), level, event, and its details."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if record.name != NAME:
            content["logger"] = record.name
        details = getattr(record, DETAILS, {})
        content |= {key: value for key, value in details.items() if key not in content}
        if record.exc_info:
            content["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(content, ensure_ascii=False, default=str)


class _Lines(RotatingFileHandler):
    """The log's file; what cannot be written is lost, for a full disk is told by the status."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the library's name)
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class PlainLines(logging.Formatter):
    """Writes a record for a person who looks at the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        details = getattr(record, DETAILS, {})
        rest = " · ".join(
            f"{key} {_short(value)}" for key, value in details.items() if value not in ("", [], {})
        )
        return f"{time}  {record.getMessage()}" + (f"  {rest}" if rest else "")


def tell(event: str, level: int = logging.INFO, **details: Any) -> None:
    """Log an event with its details."""
    logging.getLogger(NAME).log(level, event, extra={DETAILS: details})


@contextmanager
def logging_to(folder: Path, *, quiet: bool = False) -> Iterator[None]:
    """Log to ``log.jsonl`` of a folder, and to stderr for people unless ``quiet``, while the block runs.

    Warnings of Flower and of the web server go to the file too.
    """
    file = _Lines(folder / LOG_FILE, maxBytes=MOST_BYTES, backupCount=KEPT_FILES, encoding="utf-8")
    file.setFormatter(JsonLines())
    handlers: list[logging.Handler] = [file]
    if not quiet:
        screen = logging.StreamHandler(sys.stderr)
        screen.setFormatter(PlainLines())
        handlers.append(screen)
    own, others = logging.getLogger(NAME), [logging.getLogger("flwr"), logging.getLogger("uvicorn.error")]
    before = own.level, own.propagate
    own.setLevel(logging.INFO)
    own.propagate = False
    for handler in handlers:
        own.addHandler(handler)
    for other in others:
        other.addHandler(file)
    try:
        yield
    finally:
        for handler in handlers:
            own.removeHandler(handler)
        for other in others:
            other.removeHandler(file)
        file.close()
        own.setLevel(before[0])
        own.propagate = before[1]


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_short(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
