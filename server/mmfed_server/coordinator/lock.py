"""One process serves a federation: it holds a lock that ends with it, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from mmfed_common.errors import StudyError

LOCK_FILE = "server.lock"
PATIENCE = 1.0
"""Whoever looks whether the lock is held has it for microseconds; a server has it until it ends. Seconds."""
POLL_SECONDS = 0.01


class ServerLock:
    """The lock of a federation's folder; use as a context manager.

    Parameters
    ----------
    folder
        The federation's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_FILE
        self._file: int | None = None

    def __enter__(self) -> ServerLock:
        """Take the lock.

        Raises
        ------
        StudyError
            ``MMF-550`` when another process has it.
        """
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + PATIENCE
        while not _taken(file):
            if time.monotonic() >= until:
                os.close(file)
                raise StudyError("MMF-550", "another process serves it", str(self.path.parent))
            time.sleep(POLL_SECONDS)
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_served(folder: Path) -> bool:
    """Tell whether a process serves the federation just now."""
    try:
        file = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
