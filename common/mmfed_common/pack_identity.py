"""The identity of a knowledge pack's file, found without reading its content into memory.

A study names a pack by the SHA-256 of its content, not of its file: the same content may be packed otherwise.
:mod:`mmfed_common.knowledge` reads packs; here they are only told apart, on their way from server to site.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

LONGEST_HEADER = 4096
CHUNK = 1024 * 1024
MOST_BYTES = 1024**3
"""Of the content, unpacked, since it is read into memory whole; a file that holds more is no pack."""


def pack_identity(path: Path, most_bytes: int = MOST_BYTES) -> str | None:
    """SHA-256 of a pack's content in hexadecimal, as a study names it; None when the file is no whole pack.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    digest, size, pending = hashlib.sha256(), 0, b""
    try:
        with gzip.open(path, "rb") as stream:
            if not stream.readline(LONGEST_HEADER).endswith(b"\n"):
                return None
            while chunk := stream.read(CHUNK):
                size += len(chunk)
                if b"\n" in pending or size > most_bytes:
                    return None
                digest.update(pending)
                pending = chunk
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return None
    if pending.count(b"\n") != 1 or not pending.endswith(b"\n"):
        return None
    digest.update(pending[:-1])
    return digest.hexdigest()
