"""kill -9 at any moment of a commit: what the database holds is always one whole state."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.server.postgres import running_postgres
from tests.simulations.small_federation import small_study

from mmfed_server.database import metadata, open_database
from mmfed_server.record.catalogue import RunCatalogue
from mmfed_server.record.database_record import DatabaseRecord
from mmfed_server.record.state import RunState, SiteTotals

KILLS = (12, pytest.param(50, marks=pytest.mark.e2e))
NUMBERS = 60_000
"""Of a model: enough for a commit to take some time, few enough for many commits."""
LONGEST = 0.6
"""Seconds for which a process may commit before it is killed: several commits."""


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of this module alone."""
    with running_postgres() as url:
        yield url


def state_after(number: int) -> RunState:
    """A state of which every part tells its round."""
    entry = {"stage": "clinical", "seconds": 0.5, "refused": {}}
    return RunState(
        "0" * 64,
        number + 1,
        {"a": torch.full((NUMBERS,), float(number))},
        first_moment={"a": torch.full((NUMBERS,), -float(number))},
        history=[{"round": n, **entry} for n in range(1, number + 1)],
        sites={"x": SiteTotals(rounds=number)},
    )


def number_of(state: RunState | None) -> int:
    """The round after which a state is, once all its parts were seen to be of it."""
    if state is None:
        return 0
    number = state.next_round - 1
    assert bool((state.weights["a"] == number).all())
    assert bool((state.first_moment["a"] == -number).all())
    assert [entry["round"] for entry in state.history] == list(range(1, number + 1))
    assert state.sites["x"].rounds == number
    return number


def commit_until_killed(url: str, run: str, folder: Path, told: int) -> None:
    """Go on from where the database is, and tell through a pipe which commits returned."""
    record = DatabaseRecord(open_database(url), run, folder)
    state = record.load()
    record.rewind(state)
    number = number_of(state)
    os.write(told, b"%d\n" % number)
    while True:
        number += 1
        record.commit(state_after(number))
        os.write(told, b"%d\n" % number)


def killed_once(url: str, run: str, folder: Path, seconds: float) -> list[int]:
    """Let a process commit, kill it some seconds after its first word; gives what it told."""
    reading, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        torch.set_num_threads(1)  # a fork has none of the threads that its parent computed with
        try:
            commit_until_killed(url, run, folder, told)
        finally:
            os._exit(1)
    os.close(told)
    with os.fdopen(reading, "rb") as stream:
        first = stream.readline()
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        rest = stream.read()
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    return [int(line) for line in (first + rest).split()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("kills", KILLS)
def test_kills_in_the_middle_of_commits(
    kind: str, kills: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path / 'runs.sqlite'}"
    if kind == "postgresql":
        url = request.getfixturevalue("postgres_url")
    engine = open_database(url)
    run = RunCatalogue(engine).begin(small_study())
    engine.dispose()
    draw = random.Random(11)
    last = commits = 0
    for _ in range(kills):
        told = killed_once(url, run, tmp_path, draw.uniform(0.0, LONGEST))
        assert told[0] in (last, last + 1)  # what was told is there; at most the commit after it came, too
        assert told == list(range(told[0], told[-1] + 1))
        commits += told[-1] - told[0]
        last = told[-1]
    engine = open_database(url)
    catalogue, record = RunCatalogue(engine), DatabaseRecord(engine, run, tmp_path)
    state = record.load()
    assert number_of(state) in (last, last + 1)
    assert commits >= kills // 5
    assert [entry["round"] for entry in catalogue.rounds(run)] == list(range(1, number_of(state) + 1))
    assert catalogue.run(run).next_round == number_of(state) + 1
    record.rewind(state)
    record.commit(state_after(number_of(state) + 1))
    assert number_of(record.load()) == number_of(state) + 1
    metadata.drop_all(engine)
    engine.dispose()
    assert [path for path in tmp_path.iterdir() if "runs.sqlite" not in path.name] == []
