"""The coordinator's database: SQLite in the federation's folder, or PostgreSQL by URL.

Tables of other modules join :data:`metadata`; :func:`open_database` makes those that are missing.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from mmfed_common.errors import NetworkError

metadata = MetaData()
"""Every table of the coordinator."""

BUSY_SECONDS = 30.0
"""How long to wait for another process that writes."""
LOCKED_SECONDS = 0.01
"""How long to wait before the next try, where SQLite does not wait by itself."""
PRIVATE_MODE = 0o600
POSTGRES = "postgresql+pg8000"
PAGE_BYTES = 65536
"""Of a new SQLite database: a model's state is many megabytes, and is written page by page, twice."""


def open_database(url: str) -> Engine:
    """Open the database and make the tables that are missing.

    SQLite: write-ahead log, every commit flushed to the disk, foreign keys on, and each transaction takes
    the write lock at its start, so that it can never fail halfway because another process wrote.

    Parameters
    ----------
    url
        ``sqlite:///PATH`` or ``postgresql+pg8000://USER:PASSWORD@HOST/NAME``.

    Raises
    ------
    NetworkError
        ``MMF-440`` when the URL is of another kind, or the database cannot be used. The password is never
        part of the message.
    """
    parsed = _parse(url)
    with database_errors(parsed):
        if parsed.drivername == POSTGRES:
            engine = create_engine(parsed, pool_pre_ping=True)
        else:
            engine = _sqlite(parsed)
        metadata.create_all(engine)
        return engine


@contextmanager
def database_errors(url: URL) -> Iterator[None]:
    """Turn what a database says into ``MMF-440``.

    Raises
    ------
    NetworkError
        ``MMF-440``.
    """
    try:
        yield
    except (SQLAlchemyError, OSError, ImportError) as error:
        cause = error.orig if isinstance(error, OperationalError) else error
        raise NetworkError("MMF-440", f"{type(cause).__name__}: {cause}", _shown(url)) from None


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise NetworkError("MMF-440", "the URL of the database cannot be read") from None
    if parsed.drivername not in ("sqlite", POSTGRES):
        raise NetworkError(
            "MMF-440", f"not a database that is known here: {parsed.drivername}", _shown(parsed)
        )
    return parsed


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)


def _sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        _make_private(Path(url.database))
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _make_private(path: Path) -> None:
    """Make the file, if it is not there: closing one that is would end this process's locks on it (POSIX)."""
    with suppress(FileExistsError):
        os.close(os.open(path.resolve(), os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_MODE))


def _prepare(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun by _begin, not by the driver
    # must come first; a database that has pages keeps theirs
    connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
    _use_write_ahead_log(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """SQLite does not wait here, as it does elsewhere, for another process that makes the same change."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(LOCKED_SECONDS)
        else:
            return


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
