"""Worker processes: a site that dies is named, a slow one is left behind, the others go on."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import NoReturn

from flwr.app import ConfigRecord, Context, Message, RecordDict
from tests.simulations.small_federation import small_sites, small_study

from mmfed_common import messages as m
from mmfed_common.study import Study
from mmfed_server.rounds.exchange import exchange
from mmfed_simulations.backends.inprocess import InProcessGrid
from mmfed_simulations.backends.worker_processes import WORKER_DIED, WorkerProcesses, _assign
from mmfed_simulations.run import prepare_run

SIZES = (20, 24, 30)


def hello(grid: InProcessGrid, study: Study, timeout: float = 300.0) -> tuple[list[str], list[str]]:
    nodes = list(grid.get_node_ids())
    config = ConfigRecord({m.STUDY_HASH: study.hash, m.ROUND: 0})
    requests = [Message(RecordDict({m.CONFIG: config}), node, m.HELLO) for node in nodes]
    names = {node: f"site-{n}" for n, node in enumerate(nodes)}
    answers, refusals = exchange(grid, requests, names, timeout)
    return [answer.site for answer in answers], [str(refusal) for refusal in refusals]


def test_a_worker_that_was_killed_is_replaced(tmp_path: Path) -> None:
    study = small_study()
    prepare_run(study, small_sites(study, SIZES), tmp_path / "out")
    with WorkerProcesses((tmp_path / "out").resolve(), SIZES, 2) as processes:
        grid = InProcessGrid(len(SIZES), processes.carry)
        assert hello(grid, study) == (["site-0", "site-1", "site-2"], [])
        for process in processes._processes.values():
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
        answered, _ = hello(grid, study)
        assert hello(grid, study)[0] == ["site-0", "site-1", "site-2"]
        assert set(answered) <= {"site-0", "site-1", "site-2"}


class Deadly(Context):
    """Ends the process that unpickles it, as running out of memory would."""

    def __reduce__(self) -> tuple[Callable[[int], NoReturn], tuple[int]]:  # type: ignore[override]
        return os._exit, (3,)


def test_a_worker_that_dies_at_work_names_its_site_and_the_others_go_on(tmp_path: Path) -> None:
    study = small_study()
    folder = prepare_run(study, small_sites(study, SIZES), tmp_path / "out")
    with WorkerProcesses(folder.path, SIZES, 2) as processes:

        def carry(jobs: Sequence[tuple[Message, Context]], timeout: float | None) -> Mapping[int, Message]:
            deadly = [
                (message, Deadly(**vars(context)) if context.node_config["partition-id"] == 1 else context)
                for message, context in jobs
            ]
            return processes.carry(deadly, timeout)

        answered, refused = hello(InProcessGrid(len(SIZES), carry), study)
        assert answered == ["site-0", "site-2"]
        assert len(refused) == 1
        assert "MMF-404" in refused[0]
        assert WORKER_DIED in refused[0]
        assert hello(InProcessGrid(len(SIZES), processes.carry), study)[0] == ["site-0", "site-1", "site-2"]


def test_a_worker_that_dies_in_the_middle_of_its_reply_is_replaced(tmp_path: Path) -> None:
    study = small_study()
    folder = prepare_run(study, small_sites(study, SIZES), tmp_path / "out")
    with WorkerProcesses(folder.path, SIZES, 2) as processes:
        grid = InProcessGrid(len(SIZES), processes.carry)
        ours, theirs = Pipe()
        os.write(theirs.fileno(), struct.pack("!i", 1000) + b"half of it")
        theirs.close()
        processes._pipes[0].close()
        processes._pipes[0] = ours
        reply = processes._receive(0, Message(RecordDict(), 1, m.HELLO))
        assert reply.error.reason == WORKER_DIED
        assert hello(grid, study)[0] == ["site-0", "site-1", "site-2"]


def test_a_worker_that_hangs_is_left_behind_at_the_deadline(tmp_path: Path) -> None:
    study = small_study()
    folder = prepare_run(study, small_sites(study, SIZES), tmp_path / "out")
    with WorkerProcesses(folder.path, SIZES, 2) as processes:
        grid = InProcessGrid(len(SIZES), processes.carry)
        hello(grid, study)
        hangs = processes.worker_of[2]
        os.kill(processes._processes[hangs].pid or 0, signal.SIGSTOP)
        answered, refused = hello(grid, study, timeout=10.0)
        assert answered == [f"site-{n}" for n in range(3) if processes.worker_of[n] != hangs]
        assert any(text.startswith("MMF-401") for text in refused)
        assert hello(grid, study)[0] == ["site-0", "site-1", "site-2"]


def test_the_work_is_shared_evenly() -> None:
    assert _assign([10, 1, 1, 8], 2) == [0, 1, 1, 1]
