"""Waiting is bounded or visible, deadlines follow what was measured, a stop is a known end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Message
from hypothesis import given
from hypothesis import strategies as st
from tests.server.faulty_federation import StreamedGrid, federation, run_streamed
from tests.simulations.small_federation import small_sites, small_study

from mmfed_common import messages as m
from mmfed_common.errors import MmfedError
from mmfed_server.plan import RunPlan
from mmfed_server.record.folder import FolderRecord, StateFile
from mmfed_server.rounds import run_rounds
from mmfed_server.rounds.deadline import SLACK_SECONDS, Deadlines


class Watched(FolderRecord):
    """Calls something whenever a status is written."""

    def __init__(self, folder: Path, heard: Any) -> None:
        super().__init__(folder)
        self.heard = heard

    def write_status(self, status: Any, code: str = "", reason: str = "", **details: Any) -> None:
        """Write, then tell."""
        super().write_status(status, code, reason, **details)
        self.heard({"status": status, "code": code, **details})


def present(grid: StreamedGrid, nodes: set[int]) -> None:
    """Let only some of the grid's nodes be there."""
    every = list(StreamedGrid.get_node_ids(grid))

    def get_node_ids() -> Iterable[int]:
        return [node for node in every if node in nodes]

    grid.get_node_ids = get_node_ids  # type: ignore[method-assign]


def test_a_patient_run_says_whom_it_waits_for_and_begins_when_they_are_there(tmp_path: Path) -> None:
    study = small_study(aggregation={"minimum_sites": 3, "deadline_seconds": 1.0})
    sites = small_sites(study)
    grid = federation(study, sites)
    nodes = {100, 101}
    present(grid, nodes)
    said: list[dict[str, Any]] = []

    def heard(status: dict[str, Any]) -> None:
        said.append(status)
        if status["status"] == "waiting" and status["present"]:
            nodes.add(102)

    record = Watched(tmp_path, heard)
    names = tuple(data.name for data in sites)
    plan = RunPlan(study, names, sites[0].topology, tmp_path, record=record, wait_for_sites="patient")
    state = run_rounds(grid, plan)
    waiting = [status for status in said if status["status"] == "waiting" and status["present"]]
    assert waiting[0]["missing"] == ["site-2"]
    assert {status["code"] for status in waiting} == {"MMF-533"}
    assert all(totals.rounds == 3 for totals in state.sites.values())
    assert StateFile(tmp_path).status() == "finished"


def test_a_patient_run_survives_a_site_that_is_lost_in_the_middle(tmp_path: Path) -> None:
    """The other sites' updates of that round stay valid: nobody trains a round twice."""
    study = small_study(aggregation={"minimum_sites": 3})
    sites = small_sites(study)
    lost = [True]
    asked: list[tuple[str, int]] = []

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        if request.metadata.message_type != m.TRAIN:
            return reply
        number = int(str(request.content.config_records[m.CONFIG][m.ROUND]))
        asked.append((site, number))
        return None if site == "site-1" and number == 2 and lost[0] else reply

    def heard(status: dict[str, Any]) -> None:
        lost[0] = status["status"] != "waiting" or "present" not in status or not status["present"]

    record = Watched(tmp_path / "a", heard)
    state = run_streamed(study, sites, tmp_path / "a", spoil, record=record, wait_for_sites="patient")
    whole = run_streamed(study, sites, tmp_path / "b")
    assert all(torch.equal(state.weights[name], whole.weights[name]) for name in whole.weights)
    assert asked.count(("site-0", 2)) == asked.count(("site-2", 2)) == 1
    assert asked.count(("site-1", 2)) == 4
    assert '"waiting"' in (tmp_path / "a" / "events.jsonl").read_text()


def test_without_patience_too_few_sites_end_the_run_within_the_deadline(tmp_path: Path) -> None:
    study = small_study(aggregation={"minimum_sites": 3, "deadline_seconds": 0.3})
    sites = small_sites(study)
    grid = federation(study, sites)
    present(grid, {100, 101})
    names = tuple(data.name for data in sites)
    with pytest.raises(MmfedError) as caught:
        run_rounds(grid, RunPlan(study, names, sites[0].topology, tmp_path))
    assert caught.value.code == "MMF-403"


def test_a_stop_is_a_known_end_and_the_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    study, stop = small_study(), threading.Event()
    sites = small_sites(study)
    with pytest.raises(MmfedError) as caught:
        run_streamed(study, sites, tmp_path / "a", stop=stop, progress=lambda report: stop.set())
    assert caught.value.code == "MMF-521"
    assert json.loads((tmp_path / "a/state/status.json").read_text())["status"] == "stopped"
    resumed = run_streamed(study, sites, tmp_path / "a", resume=True)
    whole = run_streamed(study, sites, tmp_path / "b")
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)


def test_a_late_answer_is_named(tmp_path: Path) -> None:
    study = small_study()
    sites = small_sites(study)
    grid = federation(study, sites)
    grid.too_late.append(("site-1", m.TRAIN))
    names = tuple(data.name for data in sites)
    state = run_rounds(grid, RunPlan(study, names, sites[0].topology, tmp_path))
    assert state.sites["site-1"].last_refusal.startswith("MMF-462")
    assert state.sites["site-1"].rounds == 3


def test_a_second_answer_to_one_message_is_refused_and_the_first_counts(tmp_path: Path) -> None:
    study = small_study()
    sites = small_sites(study)

    class Twice(StreamedGrid):
        def stream(self, messages: Iterable[Message], timeout: float) -> Iterator[Message]:
            """Send at once: what the messages hold is gone after the call."""
            return twice(super().stream(messages, timeout))

    def twice(replies: Iterator[Message]) -> Iterator[Message]:
        for reply in replies:
            yield reply
            if reply.metadata.message_type == m.TRAIN:
                yield reply

    grid = federation(study, sites)
    grid.__class__ = Twice
    names = tuple(data.name for data in sites)
    state = run_rounds(grid, RunPlan(study, names, sites[0].topology, tmp_path / "twice"))
    once = run_streamed(study, sites, tmp_path / "once")
    assert all(torch.equal(state.weights[name], once.weights[name]) for name in once.weights)
    assert all(totals.last_refusal.startswith("MMF-458") for totals in state.sites.values())


@given(st.lists(st.floats(0, 1e5), max_size=5), st.floats(0.1, 1e5))
def test_a_deadline_lies_between_the_slowest_site_and_the_cap(measured: list[float], cap: float) -> None:
    deadlines = Deadlines(cap)
    assert deadlines.seconds("train") == cap
    for seconds in measured:
        deadlines.measured("train", seconds)
    wanted = 4 * max(measured) + SLACK_SECONDS if measured else cap
    assert deadlines.seconds("train") == min(cap, wanted)
    assert deadlines.seconds("other") == cap
    assert deadlines.hello_seconds() <= cap
