"""The site's log: one JSON object a line, rotating, without anything about patients.

Text of exceptions may quote a table's cells, so no exception's text is ever written: an :class:`MmfedError`
becomes its code and that code's fixed meaning, any other exception its type and where it was raised.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmfed_common.errors import MmfedError

MOST_BYTES = 5_000_000
KEPT = 5
EXTRA = ("code", "state", "study", "round", "kind", "bytes", "seconds", "attempt", "process")

Deliver = Callable[[dict[str, Any]], None]


def entry_of(record: logging.LogRecord) -> dict[str, Any]:
    """What is written of a log record: a plain dictionary without any exception's text."""
    entry: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "source": record.name,
        "message": _message(record),
    }
    for name in EXTRA:
        value = record.__dict__.get(f"mmfed_{name}")
        if isinstance(value, str | int | float):
            entry[name] = value
    raised = record.exc_info[1] if record.exc_info else None
    if raised is not None:
        entry["exception"] = _safe(raised)
        entry["raised"] = _places(raised)
    return entry


def about(**values: str | int | float) -> dict[str, Any]:
    """Fields for ``logger.…(…, extra=about(code="MMF-110"))``.

    Raises
    ------
    KeyError
        For a field that log lines do not have.
    """
    unknown = set(values) - set(EXTRA)
    if unknown:
        raise KeyError(f"log lines have no field {sorted(unknown)}")
    return {f"mmfed_{name}": value for name, value in values.items()}


class LogFile:
    """``log.jsonl``; only the supervisor's process writes it, entries of the node come to it by a pipe."""

    def __init__(self, path: Path) -> None:
        self.handler = _Lines(path, maxBytes=MOST_BYTES, backupCount=KEPT, encoding="utf-8", delay=True)
        self.handler.setFormatter(_JsonLines())

    def take_over(self, level: int = logging.INFO) -> None:
        """Write what this process logs to the file, and what others log from warnings on."""
        _route(self.handler, level)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Write an entry that another process made."""
        record = logging.makeLogRecord({"name": str(entry.get("source", "")), "mmfed_entry": dict(entry)})
        self.handler.handle(record)

    def close(self) -> None:
        """Stop writing."""
        logging.getLogger().removeHandler(self.handler)
        self.handler.close()


def send_logs(deliver: Deliver, level: int = logging.INFO) -> None:
    """Hand every entry of this process to a function, e.g. one that writes it into a pipe."""
    _route(_Delivering(deliver), level)


class _Lines(logging.handlers.RotatingFileHandler):
    """Its file; what cannot be written is lost without a word, for a full disk is told by the status."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the library's name)
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = record.__dict__.get("mmfed_entry") or entry_of(record)
        return json.dumps(entry, ensure_ascii=False, default=lambda value: type(value).__name__)


class _Delivering(logging.Handler):
    def __init__(self, deliver: Deliver) -> None:
        super().__init__()
        self._deliver = deliver

    def emit(self, record: logging.LogRecord) -> None:
        self._deliver(entry_of(record))


def _route(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in ("mmfed_client", "mmfed_common"):
        logging.getLogger(name).setLevel(level)
    for name in ("flwr", "httpx", "httpcore"):
        library = logging.getLogger(name)
        library.setLevel(logging.WARNING)
        library.handlers.clear()
        library.propagate = True


def _message(record: logging.LogRecord) -> str:
    arguments = record.args
    if isinstance(arguments, Mapping):
        return str(record.msg) % {name: _safe(value) for name, value in arguments.items()}
    if arguments:
        return str(record.msg) % tuple(_safe(value) for value in arguments)
    return str(_safe(record.msg))


def _safe(value: Any) -> Any:
    """A value without the text of any exception."""
    if isinstance(value, MmfedError):
        return value.public
    if isinstance(value, BaseException):
        return type(value).__name__
    return value


def _places(raised: BaseException) -> list[str]:
    frames = traceback.extract_tb(raised.__traceback__)
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
