"""Worker processes that stay: what they are given, that lost ones are replaced, that nothing is left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path

import pandas as pd
import psutil
import pytest
from tests.simulations.evaluation.toy_cohort import STUDY, toy_cohort, toy_topology

from mmfed_simulations.evaluation.arms import ArmResult
from mmfed_simulations.evaluation.folds import plan_folds
from mmfed_simulations.evaluation.tasks_cache import Inputs, Task, cohort_digest, run_tasks
from mmfed_simulations.evaluation.worker_pool import drop_pool, in_workers


@pytest.fixture(autouse=True)
def no_processes_of_others() -> Iterator[None]:
    """Begin without a pool, and leave none."""
    drop_pool()
    yield
    drop_pool()


def called(folder: Path, shared: int, arguments: list[int], workers: int = 2) -> dict[int, int]:
    """Powers of a number, by worker processes."""
    found: dict[int, int] = {}
    in_workers(pow, shared, arguments, workers, folder, found.__setitem__)
    return found


def fail_or_wait(_: None, event: str) -> None:
    """In a worker process: wait until a file is there, write one, or fail."""
    kind, _, path = event.partition(":")
    if kind == "wait":
        Path(path).write_text(str(os.getpid()))
        signal.pause()
    while not Path(path).is_file() or not Path(path).read_text():
        os.sched_yield()
    raise ValueError("a fault")


def processes() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


def tables(found: dict[Task, ArmResult]) -> list[pd.DataFrame]:
    return [result.rows for result in found.values()]


def test_other_inputs_give_other_results_from_the_same_processes(tmp_path: Path) -> None:
    topology = toy_topology()
    kept: list[set[int]] = []
    told: list[list[pd.DataFrame]] = []
    for seed in (0, 1):
        cohort = toy_cohort(seed=seed)
        tasks = [Task("cox_clinical", fold) for fold in plan_folds(STUDY, cohort, "cohort").folds]
        assert len(tasks) == 2
        for name, workers in (("many", 2), ("one", 1)):
            folder = tmp_path / name / str(seed)
            folder.mkdir(parents=True)
            inputs = Inputs(cohort, topology, folder, cohort_digest(cohort))
            done, failures = run_tasks(inputs, tasks, workers, None)
            assert not failures
            told.append(tables(done))
        kept.append(processes())
        assert not list((tmp_path / "many" / str(seed)).glob(".inputs-*"))
    for many, one in ((told[0], told[1]), (told[2], told[3])):
        for left, right in zip(many, one, strict=True):
            pd.testing.assert_frame_equal(left, right)
    assert not told[0][0].equals(told[2][0])
    assert len(kept[0]) == 2
    assert kept[0] == kept[1]


@pytest.mark.parametrize("noticed", [True, False])
def test_a_process_that_was_killed_meanwhile_is_replaced(tmp_path: Path, noticed: bool) -> None:
    assert called(tmp_path, 2, [3, 4]) == {3: 8, 4: 16}
    before = multiprocessing.active_children()
    assert len(before) == 2
    before[0].kill()
    wait([before[0].sentinel])
    ends = {child.sentinel for child in before}
    while noticed and ends:  # the pool notices, and ends the others
        ends -= set(wait(list(ends)))
    assert called(tmp_path, 3, [3, 4]) == {3: 27, 4: 81}
    assert not processes() & {child.pid for child in before}


def test_another_number_of_processes_ends_the_ones_before(tmp_path: Path) -> None:
    called(tmp_path, 2, [1, 2, 3])
    before = processes()
    assert len(before) == 2
    called(tmp_path, 2, [1, 2, 3], workers=1)
    assert len(processes()) == 1
    assert not processes() & before


def test_after_an_error_nothing_runs_any_more(tmp_path: Path) -> None:
    """Or a second try would meet the first one's processes in the same folders."""
    running = tmp_path / "running"
    with pytest.raises(ValueError, match="a fault"):
        in_workers(fail_or_wait, None, [f"wait:{running}", f"fail:{running}"], 2, tmp_path, lambda *_: None)
    assert not processes()
    with pytest.raises(ProcessLookupError):
        os.kill(int(running.read_text()), 0)
    assert not list(tmp_path.glob(".inputs-*"))
    assert called(tmp_path, 2, [1, 2]) == {1: 2, 2: 4}


def test_what_killed_programs_left_is_removed_and_what_others_need_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = [f".inputs-{ended.pid}-abc", f".inputs-{os.getpid()}-abc", ".inputs-abc"]
    needed = tmp_path / f".inputs-{os.getppid()}-abc"
    for path in (*(tmp_path / name for name in gone), needed):
        path.write_bytes(b"patients")
    assert called(tmp_path, 5, [0, 1]) == {0: 1, 1: 5}
    assert list(tmp_path.glob(".inputs-*")) == [needed]


PROGRAM = """
import multiprocessing, sys, time
from pathlib import Path
from mmfed_simulations.evaluation.worker_pool import in_workers
if __name__ == "__main__":
    in_workers(pow, 2, [1, 2], 2, Path(sys.argv[1]), lambda argument, result: None)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(600)
"""


def test_workers_end_when_the_program_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with subprocess.Popen([sys.executable, str(program), str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        workers = [psutil.Process(int(word)) for word in process.stdout.readline().split()]
        process.kill()
        assert len(workers) == 2
        gone, alive = psutil.wait_procs(workers, timeout=30)
    assert (len(gone), alive) == (2, [])
