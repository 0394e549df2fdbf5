"""One node of one home: a lock that the operating system releases when its last holder is dead."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from mmfed_common.errors import MachineError

POLL_SECONDS = 0.1


class NodeLock:
    """Held by the supervisor and, through inheritance, by its node's process.

    So while a node is still alive whose supervisor was killed, no second one begins.

    Parameters
    ----------
    path
        The lock file; it holds the supervisor's process number.
    patience
        Seconds to wait for a node that is about to end.
    """

    def __init__(self, path: Path, patience: float = 5.0) -> None:
        self.path = path
        self.patience = patience
        self._descriptor = -1

    @property
    def descriptor(self) -> int:
        """The open file, to be inherited."""
        return self._descriptor

    def __enter__(self) -> NodeLock:
        """Take the lock.

        Raises
        ------
        MachineError
            ``MMF-110`` when another node holds it, ``MMF-112`` when the file cannot be written.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise MachineError("MMF-112", f"cannot be opened: {error.strerror}", str(self.path)) from None
        until = time.monotonic() + self.patience
        while not _taken(descriptor):
            if time.monotonic() >= until:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                os.close(descriptor)
                raise MachineError("MMF-110", f"process {holder or 'unknown'} works on it", str(self.path))
            time.sleep(POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock up."""
        os.close(self._descriptor)
        self._descriptor = -1


def is_held(path: Path) -> bool:
    """Tell whether a node of this home is alive."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise MachineError("MMF-112", f"cannot be opened: {error.strerror}", str(path)) from None
    try:
        return not _taken(descriptor, fcntl.LOCK_SH)  # so that two who ask do not take each other for a node
    finally:
        os.close(descriptor)


def _taken(descriptor: int, how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
