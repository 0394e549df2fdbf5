"""What the record's use of a database has in common: its clock, its transactions, its errors by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from mmfed_common.errors import StudyError

FULL = ("disk is full", "No space left", "could not extend file", "disk full")
"""How SQLite and PostgreSQL say that the disk is full."""


def now() -> str:
    """The time in UTC, so fine that two moments differ."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Do some statements as one: all of them or none.

    Raises
    ------
    StudyError
        ``MMF-508`` when the disk is full, ``MMF-530`` when the database cannot be used.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0][:200]
        code = "MMF-508" if any(word in cause for word in FULL) else "MMF-530"
        raise StudyError(code, f"{type(error).__name__}: {cause}", engine.url.render_as_string()) from None
