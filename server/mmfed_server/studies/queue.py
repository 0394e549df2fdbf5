"""Which studies a server has yet to run, in their order: in the database, so that no crash loses one.

The first entry is the study that is on. It leaves the queue when its run has ended, not when it begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Engine,
    Integer,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from mmfed_common.study import Study
from mmfed_server.database import metadata
from mmfed_server.record.database import now, transaction

study_queue = Table(
    "study_queue",
    metadata,
    Column("study_hash", String(64), primary_key=True),
    Column("position", Integer, nullable=False, unique=True),
    Column("study_name", String(63), nullable=False),
    Column("again", Boolean, nullable=False),
    Column("by_start", Boolean, nullable=False),
    Column("submitted", String(32), nullable=False),
)
"""One row a study; times are UTC in ISO 8601. ``by_start``: it was given to ``mmfed-server start``."""


@dataclass(frozen=True)
class Queued:
    """A study that is on or waits.

    Attributes
    ----------
    study_hash, study_name
        Which.
    position
        Its place: the smaller, the sooner.
    again
        Whether another run is wanted where one has been finished before ``submitted``.
    by_start
        Whether it was given to ``mmfed-server start``: the next one given so takes its place.
    submitted
        When it was asked for last (UTC in ISO 8601).
    """

    study_hash: str
    study_name: str
    position: int
    again: bool
    by_start: bool
    submitted: str


class StudyQueue:
    """The queue; each method is one transaction, and any process may use it.

    Parameters
    ----------
    engine
        From :func:`mmfed_server.database.open_database`.

    Raises
    ------
    StudyError
        Here and from every method: ``MMF-508``, ``MMF-530`` when the database cannot be used.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        with transaction(engine) as connection:
            metadata.create_all(connection)

    def entries(self) -> list[Queued]:
        """All of it, the first one first."""
        query = select(study_queue).order_by(study_queue.c.position)
        with transaction(self.engine) as connection:
            return [Queued(**row) for row in connection.execute(query).mappings()]

    def head(self) -> Queued | None:
        """The first entry; None in an empty queue."""
        return next(iter(self.entries()), None)

    def holds(self, study_hash: str) -> bool:
        """Whether a study is on or waits; cheap to ask."""
        query = select(study_queue.c.position).where(study_queue.c.study_hash == study_hash)
        with transaction(self.engine) as connection:
            return connection.execute(query).first() is not None

    def put_last(self, study: Study, *, again: bool = False) -> None:
        """Let a study wait behind all others; one that waits already keeps its place."""
        with transaction(self.engine) as connection:
            if connection.execute(_row(study.hash)).first() is None:
                last = connection.execute(select(func.max(study_queue.c.position))).scalar()
                _add(connection, study, (last or 0) + 1, again=again, by_start=False)
            elif again:
                asked = {"again": True, "submitted": now()}
                connection.execute(_change(study.hash).values(**asked))

    def put_first(self, study: Study, *, again: bool = False) -> None:
        """Let a study be the next, as ``start`` does; the one that was put first before does not wait."""
        mine = study_queue.c.study_hash == study.hash
        with transaction(self.engine) as connection:
            connection.execute(delete(study_queue).where(study_queue.c.by_start, ~mine))
            first = connection.execute(select(func.min(study_queue.c.position))).scalar()
            position = (first or 0) - 1
            found = connection.execute(_row(study.hash)).first()
            if found is None:
                _add(connection, study, position, again=again, by_start=True)
            else:
                asked: dict[str, Any] = {"again": True, "submitted": now()} if again else {}
                connection.execute(_change(study.hash).values(position=position, **asked))

    def done(self, entry: Queued) -> None:
        """Take out a study whose run has ended, unless it was asked for once more meanwhile."""
        asked = study_queue.c.submitted == entry.submitted
        with transaction(self.engine) as connection:
            connection.execute(delete(study_queue).where(study_queue.c.study_hash == entry.study_hash, asked))

    def drop(self, study_hash: str) -> bool:
        """Take out a study whatever became of it; tells whether it was there."""
        with transaction(self.engine) as connection:
            gone = connection.execute(delete(study_queue).where(study_queue.c.study_hash == study_hash))
        return bool(gone.rowcount)


def _row(study_hash: str) -> Any:
    return select(study_queue).where(study_queue.c.study_hash == study_hash)


def _change(study_hash: str) -> Any:
    return update(study_queue).where(study_queue.c.study_hash == study_hash)


def _add(connection: Connection, study: Study, position: int, *, again: bool, by_start: bool) -> None:
    row = {"study_hash": study.hash, "study_name": study.study.name, "position": position}
    asked = {"again": again, "by_start": by_start, "submitted": now()}
    connection.execute(insert(study_queue).values(**row, **asked))
