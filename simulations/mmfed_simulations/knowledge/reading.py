"""Reading text files, plain or gzip, with one error for whatever is wrong with them."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from mmfed_common.errors import ModelError

CHUNK_ROWS = 1_000_000


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every way in which a file can be unreadable into ``MMF-601``."""
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError, pd.errors.ParserError) as error:
        raise ModelError("MMF-601", f"cannot be read: {error}", str(path)) from None


def sha256_of(path: Path) -> str:
    """Give a file's SHA-256 in hexadecimal."""
    with reading(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def lines_of(path: Path, most: int | None = None) -> list[str]:
    """Read the lines of a text file, or the first ``most``, without their ends."""
    lines: list[str] = []
    with reading(path):
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as stream:
            for line in stream:
                if most is not None and len(lines) == most:
                    break
                lines.append(line.rstrip("\r\n"))
    return lines


def table_chunks(path: Path, separator: str, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Read some columns of a table as text, a million rows at a time; empty cells are ``""``.

    Raises
    ------
    ModelError
        ``MMF-601`` when the file cannot be read or lacks one of the columns.
    """
    with reading(path):
        chunks = pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            usecols=list(columns),
            chunksize=CHUNK_ROWS,
            encoding="utf-8",
        )
        with chunks:
            yield from chunks


def table_of(path: Path, separator: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read some columns of a table as text; see :func:`table_chunks`."""
    return pd.concat(list(table_chunks(path, separator, columns)), ignore_index=True)


def numbers_of(column: pd.Series, path: Path) -> pd.Series:
    """Read a column of numbers; ``MMF-601`` with the row where one is not."""
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().any():
        row = int(numbers.isna().to_numpy().argmax())
        what = f"column {column.name}, row {row}: {column.iloc[row]!r} is no number"
        raise ModelError("MMF-601", what, str(path))
    return numbers
