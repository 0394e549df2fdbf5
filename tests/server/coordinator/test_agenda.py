"""What a server runs next: the head of the queue, which is also what sites are offered."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.server.serving import founded

from mmfed_common.study import Study
from mmfed_server.coordinator import barred
from mmfed_server.coordinator.agenda import Agenda, UnofferableError
from mmfed_server.coordinator.barred import RunStop
from mmfed_server.database import open_database
from mmfed_server.federation import Offers
from mmfed_server.record.catalogue import RunCatalogue
from mmfed_server.record.tables import runs
from mmfed_server.studies import StudyShelf, study_template
from mmfed_server.studies.queue import StudyQueue


@pytest.fixture
def agenda(tmp_path: Path) -> Agenda:
    federation = founded(tmp_path)
    engine = open_database(federation.database_url)
    return Agenda(StudyShelf(federation), StudyQueue(engine), Offers(federation), RunCatalogue(engine))


def written(folder: Path, name: str) -> Path:
    """A study's file."""
    path = folder / f"{name}.toml"
    path.write_text(study_template(name, 1))
    return path


def submit(agenda: Agenda, path: Path) -> Study:
    """As ``study submit`` does."""
    study, _ = agenda.shelf.put(path)
    agenda.queue.put_last(study)
    return study


def end(agenda: Agenda, study: Study, status: str) -> str:
    """A run of a study that has come to a status."""
    run = agenda.catalogue.begin(study)
    with agenda.queue.engine.begin() as connection:
        connection.execute(update(runs).where(runs.c.run == run).values(status=status))
    return run


def test_one_study_after_another_is_offered(agenda: Agenda, tmp_path: Path) -> None:
    assert agenda.next() is None
    agenda.begin(written(tmp_path, "first"))
    second, third = (submit(agenda, written(tmp_path, name)) for name in ("second", "third"))
    seen = []
    while (turn := agenda.next()) is not None:
        seen.append(turn.study.study.name)
        assert agenda.offers.current is not None
        assert agenda.offers.current.hash == turn.study.hash
        kept = agenda.shelf.offered()
        assert kept is not None
        assert kept.hash == turn.study.hash
        later = {"first": [second.hash, third.hash], "second": [third.hash], "third": []}
        assert [signed.hash for signed in agenda.waiting()] == later[seen[-1]]
        end(agenda, turn.study, "finished")
        agenda.done(turn)
    assert seen == ["first", "second", "third"]


def test_a_finished_study_that_start_names_does_not_hold_up_those_that_wait(
    agenda: Agenda, tmp_path: Path
) -> None:
    file = written(tmp_path, "first")
    first, _ = agenda.shelf.put(file)
    end(agenda, first, "finished")
    second = submit(agenda, written(tmp_path, "second"))
    agenda.begin(file)
    assert [entry.study_hash for entry in agenda.queue.entries()] == [second.hash]
    agenda.begin(file, again=True)
    assert [entry.study_hash for entry in agenda.queue.entries()] == [first.hash, second.hash]


def test_without_a_queue_what_was_on_goes_on(agenda: Agenda, tmp_path: Path) -> None:
    first, _ = agenda.shelf.put(written(tmp_path, "first"))
    agenda.shelf.offer(first)
    agenda.begin(None)
    turn = agenda.next()
    assert turn is not None
    assert turn.study.hash == first.hash


def test_a_study_of_which_another_run_is_ready_stays(agenda: Agenda, tmp_path: Path) -> None:
    agenda.begin(written(tmp_path, "first"))
    turn = agenda.next()
    assert turn is not None
    end(agenda, turn.study, "prepared")
    agenda.done(turn)
    assert agenda.queue.holds(turn.study.hash)


def test_a_study_that_cannot_be_offered_is_named(agenda: Agenda, tmp_path: Path) -> None:
    study = submit(agenda, written(tmp_path, "first"))
    agenda.shelf.federation.study_file(study.hash).unlink()
    with pytest.raises(UnofferableError) as refused:
        agenda.next()
    assert refused.value.error.code == "MMF-551"
    assert refused.value.entry.study_hash == study.hash
    assert agenda.waiting() == []


def test_a_run_ends_when_its_study_is_taken_off(
    agenda: Agenda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(barred, "LOOK_SECONDS", 60.0)
    study, process = submit(agenda, written(tmp_path, "first")), threading.Event()

    def sign() -> RunStop:
        return RunStop(process, agenda.catalogue, "run", agenda.queue, study.hash)

    stop = sign()
    assert not stop.is_set()
    agenda.queue.drop(study.hash)
    assert not stop.is_set()  # it looks now and then
    stop = sign()
    assert stop.is_set()
    assert stop.dropped()
    assert not stop.superseded()
