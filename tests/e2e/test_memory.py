"""The server's process, all of it: two models and a constant, and little for each site that speaks with it.

Measured is the most that ``mmfed-server start`` with all that it starts has ever had in memory: the port,
TLS, the spool, the guard, the aggregation and the database. What one more site costs are the chunks, of a
mebibyte at most, that are on their way to it or from it; it does not grow with the model.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from tests.e2e.answering_sites import AnsweringSites
from tests.server.serving import founded

from mmfed_server.coordinator.view import view_of
from mmfed_simulations.benchmark.federation.ours import write_study
from mmfed_simulations.processes.federation import BIN, ENVIRONMENT
from mmfed_simulations.processes.programs import MEGABYTE, Program, free_port, wait_until

ROUNDS = 2
RUN_SECONDS = 300.0
FEW, MANY = 3, 12
MODEL, LARGE = 20, 60
"""Megabytes of an update."""
OF_A_SITE = 3.0
"""Most megabytes that a further site may cost; 1.9 was measured, and a model has 20."""
MODELS = 2.5
"""Most models by which the peak may grow with a model."""


@cache
def peak(sites: int, megabytes: int) -> float:
    """Most megabytes that the server has had, over a run from its start to its end."""
    with TemporaryDirectory(prefix="mmfed-") as name:
        folder = Path(name)
        study, _ = write_study(folder, megabytes, ROUNDS, sites)
        text = study.read_text(encoding="utf-8")
        study.write_text(f'{text}\n[contract]\nnormalisation = "reference"\n', encoding="utf-8")
        federation = founded(folder, free_port())
        answering = AnsweringSites(federation, [f"site-{number:02d}" for number in range(sites)])
        answering.enrol()
        words = [str(BIN / "mmfed-server"), "start", "--dir", str(federation.path), "--study", str(study)]
        with Program(words, folder / "server.log", ENVIRONMENT) as server, answering:
            wait_until(lambda: view_of(federation).state == "finished", RUN_SECONDS, "the end of the run")
            taken = [len(entry["taken"]) for entry in view_of(federation).last_rounds]
            assert taken == [sites] * ROUNDS
            return most_memory(server)


def most_memory(program: Program) -> float:
    """Most megabytes that a program and what it started had at any time, as the kernel has noted it."""
    root = psutil.Process(program.process.pid)
    total = 0
    for process in (root, *root.children(recursive=True)):
        lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
        total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return total / MEGABYTE


@pytest.mark.e2e
def test_a_site_more_costs_chunks_and_no_model() -> None:
    few, many = peak(FEW, MODEL), peak(MANY, MODEL)
    assert many - few < OF_A_SITE * (MANY - FEW), f"{few:.0f} MB with {FEW} sites, {many:.0f} MB with {MANY}"


@pytest.mark.e2e
def test_a_larger_model_costs_twice_its_growth() -> None:
    small, large = peak(FEW, MODEL), peak(FEW, LARGE)
    assert large - small < MODELS * (LARGE - MODEL), f"{small:.0f} MB at {MODEL}, {large:.0f} MB at {LARGE}"
