"""The record of a run in a database: SQLite, or PostgreSQL where there is one."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Select, delete, func, insert, select, update

from mmfed_common.errors import StudyError
from mmfed_server.record.database import now, transaction
from mmfed_server.record.folder import empty_folder
from mmfed_server.record.record import RunStatus
from mmfed_server.record.state import RunState
from mmfed_server.record.state_file import read_state, write_state
from mmfed_server.record.tables import (
    events,
    kept_states,
    opened_sums,
    rounds,
    run_sites,
    runs,
    state_parts,
    states,
)

PART_BYTES = 4 * 1024 * 1024
STATES_KEPT = 2
"""Beside those that hold nothing of some site; see :data:`~mmfed_server.record.tables.kept_states`."""


class DatabaseRecord:
    """A run's record in a database; see :class:`~mmfed_server.record.record.RunRecord`.

    The run must be in the catalogue (:meth:`~mmfed_server.record.catalogue.RunCatalogue.begin`). Of two
    processes that go on with the same run, the one that came last may write; the other's next commit is
    refused.

    Parameters
    ----------
    engine
        The database.
    run
        The run's name.
    folder
        For the updates of the round that is under way, and for a state on its way in or out.
    """

    def __init__(self, engine: Engine, run: str, folder: Path) -> None:
        self.engine, self.run = engine, run
        self.folder = folder
        self.writer = secrets.token_hex(16)
        self.commits = 0
        self._contributors: frozenset[str] = frozenset()

    def load(self) -> RunState | None:
        """Give the newest whole state.

        Raises
        ------
        StudyError
            ``MMF-509`` when there are states and none of them is whole, ``MMF-530`` when the database
            cannot be used.
        """
        with transaction(self.engine) as connection:
            query = select(states).where(states.c.run == self.run).order_by(states.c.number.desc())
            rows = connection.execute(query.limit(STATES_KEPT)).all()
        for row in rows:
            state = self._read(row.number, row.sha256)
            if state is not None:
                self.commits = row.number
                return state
        if rows:
            raise StudyError("MMF-509", "no state of the run is whole", self.run)
        return None

    def load_without(self, sites: Collection[str]) -> RunState | None:
        """Give the newest kept state that holds nothing of some sites; None: only the beginning does.

        Raises
        ------
        StudyError
            ``MMF-509`` when that state is damaged.
        """
        with transaction(self.engine) as connection:
            mine = (kept_states.c.run == self.run, kept_states.c.site.in_(list(sites)))
            number = connection.execute(select(func.min(kept_states.c.number)).where(*mine)).scalar()
            if number is None:
                return None
            chosen = (states.c.run == self.run, states.c.number == number)
            digest = connection.execute(select(states.c.sha256).where(*chosen)).scalar_one()
        state = self._read(number, digest)
        if state is None:
            raise StudyError("MMF-509", "the state without the sites is damaged", self.run)
        return None if set(sites) & state.contributors.keys() else state

    def rewind(self, state: RunState | None) -> None:
        """Become the writer of the run, and forget what a damaged later state may have left."""
        if state is None:
            self.commits = 0
        self._contributors = frozenset(() if state is None else state.contributors)
        kept = len(state.history) if state is not None else 0
        with transaction(self.engine) as connection:
            changed = connection.execute(
                update(runs)
                .where(runs.c.run == self.run)
                .values(writer=self.writer, commits=self.commits, updated=now())
            )
            if changed.rowcount != 1:
                raise StudyError("MMF-532", "the run is not in the catalogue", self.run)
            for table, position in ((states, states.c.number), (state_parts, state_parts.c.number)):
                connection.execute(delete(table).where(table.c.run == self.run, position > self.commits))
            connection.execute(delete(rounds).where(rounds.c.run == self.run, rounds.c.position > kept))
            last = kept_states.c.number >= self.commits  # noted when the state after it was committed
            connection.execute(delete(kept_states).where(kept_states.c.run == self.run, last))

    def commit(self, state: RunState) -> None:
        """Add the state, its rounds and its sites in one transaction.

        Raises
        ------
        StudyError
            ``MMF-531`` when another process writes this run, ``MMF-508``, ``MMF-530``.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            write_state(file, state)
            size = file.tell()
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            number = self.commits + 1
            with transaction(self.engine) as connection:
                self._advance(connection, state)
                values = {"run": self.run, "number": number, "committed": now()}
                connection.execute(insert(states).values(**values, size=size, sha256=digest))
                self._keep_former(connection, state)
                for table, position in ((states, states.c.number), (state_parts, state_parts.c.number)):
                    old = (position <= number - STATES_KEPT, position.not_in(self._kept()))
                    connection.execute(delete(table).where(table.c.run == self.run, *old))
                for part, content in enumerate(iter(lambda: file.read(PART_BYTES), b"")):  # in the room left
                    row = {"run": self.run, "number": number, "part": part, "content": content}
                    connection.execute(insert(state_parts).values(**row))
                self._add_rounds(connection, state)
                self._replace_sites(connection, state)
        self.commits = number
        self._contributors = frozenset(state.contributors)

    def finish(self, state: RunState) -> None:
        """Clear the folder; the final weights are in the last state."""
        shutil.rmtree(self.folder / self.run, ignore_errors=True)

    def write_status(self, status: RunStatus, code: str = "", reason: str = "", **details: Any) -> None:
        """Say how the run stands."""
        values = {"status": status, "code": code, "reason": reason, "details": details, "updated": now()}
        with transaction(self.engine) as connection:
            changed = connection.execute(update(runs).where(runs.c.run == self.run).values(**values))
        if changed.rowcount != 1:
            raise StudyError("MMF-532", "the run is not in the catalogue", self.run)

    def event(self, event: str, **details: Any) -> None:
        """Add a line to the diary, which also keeps what came before a crash."""
        with transaction(self.engine) as connection:
            row = {"run": self.run, "time": now(), "event": event, "details": details}
            connection.execute(insert(events).values(**row))

    def note_opened(self, round_number: int, sites: tuple[str, ...]) -> None:
        """Note it for the study: the sites, too, remember it whatever run they were asked in."""
        with transaction(self.engine) as connection:
            study = connection.execute(self._study_hash()).scalar_one()
            mine = (opened_sums.c.study_hash == study, opened_sums.c.round == round_number)
            connection.execute(delete(opened_sums).where(*mine))
            row = {"study_hash": study, "round": round_number, "sites": list(sites)}
            connection.execute(insert(opened_sums).values(**row))

    def opened(self, round_number: int) -> tuple[str, ...]:
        """Give what any run of the study noted."""
        query = select(opened_sums.c.sites).where(
            opened_sums.c.study_hash == self._study_hash().scalar_subquery(),
            opened_sums.c.round == round_number,
        )
        with transaction(self.engine) as connection:
            return tuple(connection.execute(query).scalar() or ())

    def spool(self) -> Path:
        """Give an empty folder in the folder."""
        return empty_folder(self.folder / self.run)

    def close(self) -> None:
        """Nothing is held: connections belong to the engine."""

    def _advance(self, connection: Connection, state: RunState) -> None:
        mine = (runs.c.run == self.run, runs.c.writer == self.writer, runs.c.commits == self.commits)
        values = {"commits": self.commits + 1, "next_round": state.next_round, "finished": state.finished}
        changed = connection.execute(update(runs).where(*mine).values(**values, updated=now()))
        if changed.rowcount != 1:
            raise StudyError("MMF-531", "another process has gone on with this run", self.run)

    def _keep_former(self, connection: Connection, state: RunState) -> None:
        """Keep the state before this one for sites that are new in this one.

        Not where it holds nothing of anybody: that state is the beginning, which follows from the study.
        """
        if not self._contributors:
            return
        for site in sorted(state.contributors.keys() - self._contributors):
            row = {"run": self.run, "site": site, "number": self.commits}
            connection.execute(insert(kept_states).values(**row))

    def _study_hash(self) -> Select[tuple[str]]:
        return select(runs.c.study_hash).where(runs.c.run == self.run)

    def _kept(self) -> Select[tuple[int]]:
        return select(kept_states.c.number).where(kept_states.c.run == self.run)

    def _add_rounds(self, connection: Connection, state: RunState) -> None:
        query = select(rounds.c.position).where(rounds.c.run == self.run)
        known = len(connection.execute(query).all())
        for position, entry in enumerate(state.history[known:], start=known + 1):
            row = {"run": self.run, "position": position, "round": entry["round"], "committed": now()}
            named = {"stage": entry["stage"], "seconds": entry["seconds"], "entry": entry}
            connection.execute(insert(rounds).values(**row, **named))

    def _replace_sites(self, connection: Connection, state: RunState) -> None:
        connection.execute(delete(run_sites).where(run_sites.c.run == self.run))
        for site, totals in state.sites.items():
            connection.execute(insert(run_sites).values(run=self.run, site=site, **vars(totals)))

    def _read(self, number: int, digest: str) -> RunState | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.folder) as file:
            found = hashlib.sha256()
            for content in self._parts(number):
                found.update(content)
                file.write(content)
            file.flush()
            return read_state(Path(file.name)) if found.hexdigest() == digest else None

    def _parts(self, number: int) -> Iterator[bytes]:
        part = 0
        while True:
            chosen = (state_parts.c.run == self.run, state_parts.c.number == number)
            query = select(state_parts.c.content).where(*chosen, state_parts.c.part == part)
            with transaction(self.engine) as connection:
                content = connection.execute(query).scalar_one_or_none()
            if content is None:
                return
            yield content
            part += 1
