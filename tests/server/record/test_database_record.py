"""A run in a database: SQLite, and PostgreSQL where there is one; the same run as in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sqlalchemy import Engine, delete, func, select, update
from tests.server.faulty_federation import run_streamed
from tests.server.postgres import running_postgres
from tests.simulations.killed_run import study_for
from tests.simulations.small_federation import small_sites, small_study

from mmfed_common.errors import MmfedError
from mmfed_common.study import Study
from mmfed_server.database import metadata, open_database
from mmfed_server.plan import RoundReport
from mmfed_server.record.catalogue import RunCatalogue
from mmfed_server.record.database_record import DatabaseRecord
from mmfed_server.record.folder import StateFile
from mmfed_server.record.state import RunState, SiteTotals
from mmfed_server.record.tables import state_parts, states


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of this module alone."""
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        opened = open_database(f"sqlite:///{tmp_path / 'runs.sqlite'}")
    else:
        opened = open_database(request.getfixturevalue("postgres_url"))
    yield opened
    metadata.drop_all(opened)
    opened.dispose()


def entry(number: int) -> dict[str, object]:
    return {"round": number, "stage": "clinical", "seconds": 0.5, "train_loss": 1.0 / number, "refused": {}}


def state_after(number: int, study: Study) -> RunState:
    return RunState(
        study.hash,
        number + 1,
        {"a": torch.full((3, 2), float(number)), "b": torch.tensor(0.5)},
        first_moment={"a": torch.ones(3, dtype=torch.float64)},
        history=[entry(n) for n in range(1, number + 1)],
        sites={"x": SiteTotals(patients=9, rounds=number, bytes_up=2**40)},
        norms={"x": [0.1 + 0.2]},
    )


def begin(engine: Engine, folder: Path) -> tuple[RunCatalogue, str, DatabaseRecord]:
    catalogue = RunCatalogue(engine)
    run = catalogue.begin(small_study())
    record = DatabaseRecord(engine, run, folder)
    assert record.load() is None
    record.rewind(None)
    return catalogue, run, record


def test_everything_comes_back(engine: Engine, tmp_path: Path) -> None:
    catalogue, run, record = begin(engine, tmp_path)
    committed = state_after(2, small_study())
    record.commit(committed)
    found = DatabaseRecord(engine, run, tmp_path).load()
    assert found is not None
    assert torch.equal(found.weights["a"], committed.weights["a"])
    assert found.weights["b"].shape == ()
    assert found.first_moment["a"].dtype == torch.float64
    assert (found.history, found.sites, found.norms) == (committed.history, committed.sites, committed.norms)
    assert catalogue.rounds(run) == committed.history
    assert catalogue.metrics(run) == {"train_loss": [(1, 1.0), (2, 0.5)]}
    assert catalogue.sites(run)[0]["bytes_up"] == 2**40
    assert catalogue.study(run).hash == small_study().hash
    summary = catalogue.run(run)
    assert (summary.next_round, summary.rounds, summary.finished) == (3, 3, False)


def test_two_states_are_kept_and_the_older_one_serves_when_the_newer_is_damaged(
    engine: Engine, tmp_path: Path
) -> None:
    catalogue, run, record = begin(engine, tmp_path)
    for number in (1, 2, 3):
        record.commit(state_after(number, small_study()))
    with engine.begin() as connection:
        assert connection.execute(select(func.count()).select_from(states)).scalar() == 2
        damaged = update(state_parts).where(state_parts.c.number == 3).values(content=b"\0" * 100)
        connection.execute(damaged)
    again = DatabaseRecord(engine, run, tmp_path)
    found = again.load()
    assert found is not None
    assert found.next_round == 3
    again.rewind(found)
    assert len(catalogue.rounds(run)) == 2
    again.commit(state_after(3, small_study()))
    assert len(catalogue.rounds(run)) == 3


def test_a_run_of_which_no_state_is_whole_is_not_begun_anew(engine: Engine, tmp_path: Path) -> None:
    _, run, record = begin(engine, tmp_path)
    record.commit(state_after(1, small_study()))
    with engine.begin() as connection:
        connection.execute(delete(state_parts))
    with pytest.raises(MmfedError) as caught:
        DatabaseRecord(engine, run, tmp_path).load()
    assert caught.value.code == "MMF-509"


def test_of_two_servers_the_one_that_came_last_writes(engine: Engine, tmp_path: Path) -> None:
    _, run, first = begin(engine, tmp_path / "first")
    first.commit(state_after(1, small_study()))
    second = DatabaseRecord(engine, run, tmp_path / "second")
    second.rewind(second.load())
    with pytest.raises(MmfedError) as caught:
        first.commit(state_after(2, small_study()))
    assert caught.value.code == "MMF-531"
    second.commit(state_after(2, small_study()))


def test_status_diary_and_catalogue(engine: Engine, tmp_path: Path) -> None:
    catalogue, run, record = begin(engine, tmp_path)
    record.write_status("waiting", "MMF-533", "too few sites", missing=["north"])
    record.event("refused", site="x", code="MMF-453")
    record.event("round", round=1)
    summary = catalogue.run(run)
    assert (summary.status, summary.code, summary.details) == ("waiting", "MMF-533", {"missing": ["north"]})
    lines = catalogue.events(run)
    assert [line["event"] for line in lines] == ["refused", "round"]
    assert catalogue.events(run, after=lines[0]["number"]) == lines[1:]
    assert catalogue.unfinished(small_study().hash) == run
    ended = state_after(3, small_study())
    ended.finished = True
    record.commit(ended)
    assert catalogue.unfinished(small_study().hash) is None
    assert [found.run for found in catalogue.runs()] == [run]
    for action in (lambda: catalogue.run("none"), lambda: DatabaseRecord(engine, "x", tmp_path).rewind(None)):
        with pytest.raises(MmfedError) as caught:
            action()
        assert caught.value.code == "MMF-532"


def test_a_database_that_is_gone_is_named_without_its_password(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'a.sqlite'}")
    _, _, record = begin(engine, tmp_path)
    metadata.drop_all(engine)
    with pytest.raises(MmfedError) as caught:
        record.commit(state_after(1, small_study()))
    assert caught.value.code == "MMF-530"


class StopHereError(Exception):
    """Ends a run from within."""


@pytest.mark.parametrize("stop", [1, 7])
def test_a_run_in_a_database_goes_on_to_the_bits_of_the_run_in_a_folder(
    stop: int, engine: Engine, tmp_path: Path
) -> None:
    study = study_for("fedadam")
    sites = small_sites(study)
    catalogue = RunCatalogue(engine)
    run = catalogue.begin(study)

    def progress(report: RoundReport) -> None:
        if report.round == stop:
            raise StopHereError

    record = DatabaseRecord(engine, run, tmp_path / "spool")
    with pytest.raises(StopHereError):
        run_streamed(study, sites, tmp_path / "a", record=record, resume=True, progress=progress)
    assert catalogue.run(run).status == "failed"
    assert len(catalogue.rounds(run)) == stop
    again = DatabaseRecord(engine, run, tmp_path / "spool")
    resumed = run_streamed(study, sites, tmp_path / "a", record=again, resume=True)
    assert catalogue.run(run).status == "finished"
    run_streamed(study, sites, tmp_path / "b")
    whole = StateFile(tmp_path / "b").load()
    assert whole is not None
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)
    assert [e["round"] for e in catalogue.rounds(run)] == [e["round"] for e in whole.history]
    assert list((tmp_path / "spool").iterdir()) == []
