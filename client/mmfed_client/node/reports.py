"""What the node's process tells its supervisor: one JSON object a line, through the pipe of its stdout.

The supervisor is the only writer of the status, the metrics and the log. The pipe is also how the node learns
that its supervisor is gone: the node ends when it can tell nobody.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any, TextIO

from mmfed_common.errors import MmfedError

OPENING = "opening"
OPENED = "opened"
CONNECTED = "connected"
WORKING = "working"
SENT = "sent"
REFUSED = "refused"
"""A message was answered with a refusal or an error."""
ENDED = "ended"
"""The node ends because of an error; the last report of a process."""
LOG = "log"
HEARTBEAT = "heartbeat"

ORPHANED = 3
"""Exit code of a node whose supervisor is gone."""


class Reports:
    """Writes reports.

    Parameters
    ----------
    stream
        Where they go; a failure to write ends this process.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def tell(self, event: str, **content: Any) -> None:
        """Write one report."""
        line = json.dumps({"event": event, **content}, default=lambda value: type(value).__name__)
        try:
            with self._lock:
                self._stream.write(f"{line}\n")
                self._stream.flush()
        except (OSError, ValueError):
            os._exit(ORPHANED)

    def log(self, entry: dict[str, Any]) -> None:
        """Pass on an entry of the log."""
        self.tell(LOG, entry=entry)

    def error(self, event: str, error: MmfedError, **content: Any) -> None:
        """Write a report about an error, with its cause: it goes into the status, which stays here."""
        where = f" ({error.where})" if error.where else ""
        self.tell(event, code=error.code, cause=f"{error.what}{where}", **content)


def own_reports() -> Reports:
    """Take this process's stdout for reports; whatever else is printed goes to stderr from now on."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Reports(stream)


def first_line(stdin: int) -> str:
    """Read what the supervisor says first, the passphrase, and nothing beyond it."""
    line = bytearray()
    while (byte := os.read(stdin, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode()


def end_with_supervisor(stdin: int) -> threading.Thread:
    """End this process as soon as the supervisor's end of its stdin closes, whatever else it does.

    Parameters
    ----------
    stdin
        The pipe that the supervisor holds open as long as it lives.
    """

    def watch() -> None:
        while os.read(stdin, 4096):
            continue
        os._exit(ORPHANED)

    thread = threading.Thread(target=watch, name="supervisor watch", daemon=True)
    thread.start()
    return thread


def parse_report(line: str) -> dict[str, Any] | None:
    """Read one report; None for a line that is none, e.g. one cut short by a kill."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) and isinstance(content.get("event"), str) else None
