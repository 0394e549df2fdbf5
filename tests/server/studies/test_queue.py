"""The queue of studies: its order, what is asked twice, and that no process takes it with it when it dies."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.simulations.small_federation import small_study

from mmfed_common.study import Study
from mmfed_server.database import open_database
from mmfed_server.studies.queue import StudyQueue


@pytest.fixture
def queue(tmp_path: Path) -> StudyQueue:
    return again_from(tmp_path)


def again_from(folder: Path) -> StudyQueue:
    """The queue as another process sees it."""
    return StudyQueue(open_database(f"sqlite:///{folder / 'f.sqlite'}"))


def named(name: str) -> Study:
    """A study of its own."""
    return small_study(study={"name": name})


def order(queue: StudyQueue) -> list[str]:
    """Names, the first one first."""
    return [entry.study_name for entry in queue.entries()]


A, B, C = (named(name) for name in ("a", "b", "c"))


def test_studies_wait_in_the_order_in_which_they_came(queue: StudyQueue, tmp_path: Path) -> None:
    assert queue.head() is None
    for study in (A, B, C, A, B):
        queue.put_last(study)
    assert order(queue) == ["a", "b", "c"]
    assert order(again_from(tmp_path)) == ["a", "b", "c"]
    assert queue.drop(B.hash)
    assert not queue.drop(B.hash)
    queue.put_last(B)
    assert order(queue) == ["a", "c", "b"]
    assert queue.holds(B.hash)


def test_what_start_is_given_comes_first_and_takes_the_place_of_what_it_was_given_before(
    queue: StudyQueue,
) -> None:
    queue.put_last(B)
    queue.put_first(A)
    assert order(queue) == ["a", "b"]
    queue.put_first(C)
    assert order(queue) == ["c", "b"]
    queue.put_first(B)  # it was submitted, and stays so: the next one does not take its place
    queue.put_first(A)
    assert order(queue) == ["a", "b"]


def test_a_study_that_was_asked_for_once_more_stays_when_its_run_ends(queue: StudyQueue) -> None:
    queue.put_last(A)
    entry = queue.head()
    assert entry is not None
    queue.put_last(A)
    assert queue.head() == entry
    queue.put_last(A, again=True)
    queue.done(entry)
    asked = queue.head()
    assert asked is not None
    assert asked.again
    assert asked.submitted > entry.submitted
    queue.done(asked)
    assert queue.head() is None
