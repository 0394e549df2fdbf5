"""One process serves a federation: it holds a lock that ends with it, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from mmfed_common.errors import StudyError

LOCK_FILE = "server.lock"


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
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise StudyError("MMF-550", "another process serves it", str(self.path.parent)) from None
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


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
