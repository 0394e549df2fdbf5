"""Files that are either whole or not there, also after a crash or a loss of power."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file in one step: write beside it, flush to the disk, rename, flush the folder.

    Raises
    ------
    OSError
        As the operating system gives it; the old file is then untouched.
    """
    beside = path.with_name(f"{path.name}.partial")
    with open(beside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
