"""The runs of a federation: what there is, how each stands, what its rounds gave."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, delete, insert, select, update

from mmfed_common.errors import StudyError
from mmfed_common.study import Study
from mmfed_server.database import metadata
from mmfed_server.record.database import now, transaction
from mmfed_server.record.tables import events, replays, rounds, run_sites, runs

PREPARING = "preparing"


@dataclass(frozen=True)
class RunSummary:
    """One run at a glance.

    Attributes
    ----------
    run
        Its name.
    study_name, study_hash
        What it runs.
    status, code, reason, details
        How it stands; see :class:`~mmfed_server.record.record.RunRecord`.
    rounds, next_round
        How many rounds the study has, and which is next, counted from 1.
    finished
        Whether the last round is committed.
    created, updated
        UTC in ISO 8601.
    replaces, without
        The run that this one replaces, and the sites that it does without; empty where it replaces none.
    superseded_by
        The run that replaces this one; empty without one.
    """

    run: str
    study_name: str
    study_hash: str
    status: str
    code: str
    reason: str
    details: dict[str, Any]
    rounds: int
    next_round: int
    finished: bool
    created: str
    updated: str
    replaces: str = ""
    without: tuple[str, ...] = ()
    superseded_by: str = ""


class RunCatalogue:
    """All runs of a database.

    Parameters
    ----------
    engine
        The database; tables that are not there are made.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        with transaction(engine) as connection:
            metadata.create_all(connection)

    def begin(
        self, study: Study, replaces: str = "", without: Sequence[str] = (), from_round: int = 1
    ) -> str:
        """Add a run of a study; gives its name.

        A run that replaces another is ``preparing``, and not in the list, until :meth:`make_ready`; of what
        was left so by a crash nothing is kept.

        Parameters
        ----------
        replaces, without, from_round
            The run that it replaces, the sites that it does without, the first round that is trained again.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        run = f"{study.study.name}-{stamp}-{secrets.token_hex(4)}"
        row = {
            "run": run,
            "study_hash": study.hash,
            "study_name": study.study.name,
            "study": study.canonical().decode(),
            "created": now(),
            "updated": now(),
            "status": PREPARING if replaces else "prepared",
            "code": "",
            "reason": "",
            "details": {},
            "rounds": study.training.rounds,
            "next_round": 1,
            "finished": False,
            "commits": 0,
            "writer": "",
        }
        with transaction(self.engine) as connection:
            if replaces:
                left_over = select(replays.c.run).where(replays.c.replaces == replaces)
                unready = (runs.c.run.in_(left_over), runs.c.status == PREPARING)
                connection.execute(delete(runs).where(*unready))
            connection.execute(insert(runs).values(**row))
            if replaces:
                row = {"run": run, "replaces": replaces, "without": list(without), "asked": now()}
                connection.execute(insert(replays).values(**row, from_round=from_round))
        return run

    def make_ready(self, run: str) -> None:
        """Put a run that replaces another in its place: no process may commit to the old one any more."""
        with transaction(self.engine) as connection:
            query = select(replays.c.replaces).where(replays.c.run == run)
            replaced = connection.execute(query).scalar_one()
            connection.execute(update(runs).where(runs.c.run == run).values(status="prepared"))
            connection.execute(update(runs).where(runs.c.run == replaced).values(writer=""))

    def unfinished(self, study_hash: str) -> str | None:
        """Name of the newest run of a study that has not come to its last round; None when there is none."""
        for found in self.runs():
            if found.study_hash == study_hash and not found.finished:
                return found.run
        return None

    def runs(self) -> list[RunSummary]:
        """Every run, the newest first."""
        with transaction(self.engine) as connection:
            query = select(runs).where(runs.c.status != PREPARING)
            query = query.order_by(runs.c.created.desc(), runs.c.run.desc())
            rows = connection.execute(query).all()
            return _summaries(connection, rows)

    def run(self, run: str) -> RunSummary:
        """One run.

        Raises
        ------
        StudyError
            ``MMF-532`` when there is none of this name.
        """
        row = self._row(run)
        with transaction(self.engine) as connection:
            return _summaries(connection, [row])[0]

    def superseded(self, run: str) -> bool:
        """Whether another run replaces this one; cheap to ask."""
        with transaction(self.engine) as connection:
            query = _ready_replays().where(replays.c.replaces == run)
            return connection.execute(query).first() is not None

    def study(self, run: str) -> Study:
        """The study of a run, as it was when the run began.

        Raises
        ------
        StudyError
            ``MMF-532`` when there is no such run.
        """
        return Study.from_content(json.loads(self._row(run).study), run)

    def rounds(self, run: str) -> list[dict[str, Any]]:
        """One entry a committed round, with ``round``, ``stage``, ``seconds``, losses and ``refused``."""
        query = select(rounds.c.entry).where(rounds.c.run == run).order_by(rounds.c.position)
        with transaction(self.engine) as connection:
            return [dict(entry) for entry in connection.execute(query).scalars()]

    def metrics(self, run: str) -> dict[str, list[tuple[int, float]]]:
        """Each metric's course: (round, value)."""
        found: dict[str, list[tuple[int, float]]] = {}
        for entry in self.rounds(run):
            for name, value in entry.items():
                if name.endswith("_loss"):
                    found.setdefault(name, []).append((entry["round"], float(value)))
        return found

    def sites(self, run: str) -> list[dict[str, Any]]:
        """What each site did in a run, sorted by name."""
        query = select(run_sites).where(run_sites.c.run == run).order_by(run_sites.c.site)
        with transaction(self.engine) as connection:
            rows = connection.execute(query).mappings()
            return [{key: value for key, value in row.items() if key != "run"} for row in rows]

    def events(self, run: str, after: int = 0, most: int = 1000) -> list[dict[str, Any]]:
        """The run's diary after a line's number: ``number``, ``time``, ``event`` and its details."""
        query = select(events).where(events.c.run == run, events.c.number > after)
        with transaction(self.engine) as connection:
            rows = connection.execute(query.order_by(events.c.number).limit(most))
            return [
                {"number": row.number, "time": row.time, "event": row.event, **row.details} for row in rows
            ]

    def _row(self, run: str) -> Row[Any]:
        with transaction(self.engine) as connection:
            row = connection.execute(select(runs).where(runs.c.run == run)).one_or_none()
        if row is None:
            raise StudyError("MMF-532", f"there is no run {run!r}")
        return row


def newest_run(catalogue: RunCatalogue, study_hash: str) -> RunSummary | None:
    """The newest run of a study; None without one."""
    return next((found for found in catalogue.runs() if found.study_hash == study_hash), None)


def _ready_replays() -> Select[Any]:
    return select(replays).join(runs, runs.c.run == replays.c.run).where(runs.c.status != PREPARING)


OWN = ("replaces", "without", "superseded_by")


def _summaries(connection: Connection, rows: Sequence[Row[Any]]) -> list[RunSummary]:
    found = connection.execute(_ready_replays()).all()
    of_run = {row.run: row for row in found}
    by_replaced = {row.replaces: row.run for row in found}
    names = [name for name in RunSummary.__dataclass_fields__ if name not in OWN]
    summaries = []
    for row in rows:
        replay = of_run.get(row.run)
        summaries.append(
            RunSummary(
                **{name: getattr(row, name) for name in names},
                replaces="" if replay is None else replay.replaces,
                without=() if replay is None else tuple(replay.without),
                superseded_by=by_replaced.get(row.run, ""),
            )
        )
    return summaries
