"""Files that are either whole or not there, also after a crash or a loss of power."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the operating system says when there is no room."""
WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
"""What it says of a file system that has no locks."""
MOST_TRIES = 1000
"""How often others may come between, before it is the file system that is at fault."""
ROOM = 8192
"""A status file takes a multiple of this, so that there is room in it when there is none on the disk."""

PARTIAL = ".partial"
"""Ends the name of a file or folder that is being written, beside the one that it will replace."""


def write_status(path: Path, text: str) -> None:
    """Replace a small JSON file as :func:`write_durably` does, readable by its owner only.

    On a full disk it is written over where it lies, which takes no new room: then, too, it must be able to
    say what is wrong. A reader who comes in that moment may find it torn.

    Raises
    ------
    OSError
        As the operating system gives it, when neither is possible.
    """
    content = text.encode()
    content = content.ljust(-(-len(content) // ROOM) * ROOM)
    try:
        write_durably(path, content, 0o600)
    except OSError as error:
        if error.errno not in FULL:
            raise
        _remove_left(path.with_name(path.name + PARTIAL))
        _write_over(path, content, error)


def _write_over(path: Path, content: bytes, full: OSError) -> None:
    with open(path, "r+b", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != len(content):
            raise full
        file.write(content)
        os.fsync(file.fileno())


def write_durably(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Replace a file in one step: write beside it, flush to the disk, rename, flush the folder.

    Two writers of one file, threads or processes, do so one after the other; on a file system without locks
    (``flock``), that is the caller's to see to.

    Parameters
    ----------
    mode
        Permissions, before the process's umask; the file never has others, not even for a moment.

    Raises
    ------
    OSError
        As the operating system gives it; the old file is then untouched.
    """
    replace_durably(path, lambda file: file.write(content), mode)


def replace_durably(path: Path, write: Callable[[BinaryIO], object], mode: int = 0o666) -> None:
    """Replace a file as :func:`write_durably` does, by something that is written piece by piece.

    Parameters
    ----------
    write
        Writes the content to the open file that it is given.
    """
    beside = path.with_name(path.name + PARTIAL)
    with _own(beside, mode) as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
        os.replace(beside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _own(beside: Path, mode: int) -> Iterator[BinaryIO]:
    """Make a file that no other writer has; wait for one that is at work, remove what a dead one left."""
    for _ in range(MOST_TRIES):
        try:
            file = open(beside, "xb", opener=lambda path, flags: os.open(path, flags, mode))  # noqa: SIM115
        except FileExistsError:
            _remove_left(beside)
            continue
        with file:
            if _locked(file.fileno(), beside):
                yield file
                return
    raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK), str(beside))


def _remove_left(beside: Path) -> None:
    """Remove a file, once whoever writes it has ended."""
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError:  # no file that a writer of ours would make
        beside.unlink(missing_ok=True)
        return
    try:
        if _locked(descriptor, beside):
            beside.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, path: Path) -> bool:
    """Wait for the lock of an open file; tells whether the file is still the one of this name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
