"""Files that are either whole or not there, also after a crash or a loss of power."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_durably(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Replace a file in one step: write beside it, flush to the disk, rename, flush the folder.

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
    beside = path.with_name(f"{path.name}.partial")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
