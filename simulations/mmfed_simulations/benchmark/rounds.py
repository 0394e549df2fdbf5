"""Time and memory of a round with many small sites: in this process, and the same apps on Ray."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rich.table import Table

from mmfed_client.site import SiteData
from mmfed_common.graph import build_topology
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.randomness import numpy_generator
from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_server.plan import RoundReport
from mmfed_simulations.run import run_study

PATIENTS = 30
GENES = 40
WARM_UP = 0.2
"""Share of the rounds before memory is expected to be flat."""
MEGABYTE = 2.0**20


def run_rounds_benchmark(
    rounds: int = 500,
    sites: int = 20,
    backend: str = "inprocess",
    *,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Run a small federation and measure each round.

    Memory is the resident memory of this process and all it has started; its growth is the slope of a
    straight line through the rounds after the warm-up.

    Parameters
    ----------
    rounds, sites
        How many; each site has 30 patients with 4 clinical numbers and 40 genes.
    backend, workers
        As in :func:`~mmfed_simulations.run.run_study`.
    progress
        Called with the number of each round.

    Returns
    -------
    dict
        ``backend``, ``workers``, ``rounds``, ``sites``, ``seconds_per_round`` (median after the warm-up),
        ``start_up_seconds`` (what the run took beyond its rounds), ``memory_growth_mb_per_round``,
        ``memory_first_mb`` and ``memory_last_mb`` (after the warm-up).
    """
    study = benchmark_study(rounds)
    data = benchmark_sites(study, sites)
    process = psutil.Process()
    memory: list[float] = []
    seconds: list[float] = []

    def watch(report: RoundReport) -> None:
        memory.append(resident_bytes(process) / MEGABYTE)
        seconds.append(report.seconds)
        if progress is not None:
            progress(report.round)

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run_study(study, data, Path(folder) / "run", backend=backend, workers=workers, progress=watch)
    whole = time.perf_counter() - began
    first = min(int(rounds * WARM_UP), rounds - 2)
    return {
        "backend": backend,
        "workers": workers,
        "rounds": rounds,
        "sites": sites,
        "seconds_per_round": float(np.median(seconds[first:])),
        "start_up_seconds": whole - sum(seconds),
        "memory_growth_mb_per_round": slope(memory[first:]),
        "memory_first_mb": memory[first],
        "memory_last_mb": memory[-1],
    }


def rounds_table(results: Sequence[dict[str, Any]]) -> Table:
    """Print results side by side."""
    table = Table(title="Rounds with small sites")
    table.add_column("back end", min_width=9)
    for name in ("workers", "sites", "rounds", "s/round", "start s", "MB/round", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        table.add_row(
            str(result["backend"]),
            str(result["workers"]),
            str(result["sites"]),
            str(result["rounds"]),
            f"{result['seconds_per_round']:.3f}",
            f"{result['start_up_seconds']:.1f}",
            f"{result['memory_growth_mb_per_round']:+.4f}",
            f"{result['memory_last_mb']:.0f}",
        )
    return table


def slope(values: Sequence[float]) -> float:
    """Least-squares slope of values at 0, 1, 2, …"""
    return float(np.polyfit(np.arange(len(values)), np.asarray(values), 1)[0])


def resident_bytes(process: psutil.Process) -> int:
    """Resident memory of a process and its descendants; one that ends while it is counted counts nothing."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def benchmark_study(rounds: int) -> Study:
    """The study of the benchmark: all levels of a small model, Adam at the server."""
    return Study.from_content(
        {
            "study": {"name": "benchmark-rounds", "seed": 1},
            "contract": {
                "clinical": {f"c{i}": {"kind": "number"} for i in range(4)},
                "gene": {"panel": [f"G{i}" for i in range(GENES)], "layers": {"expression": {}}},
                "survival": {"bins": [365.0, 730.0, 1460.0, 2920.0], "horizons": [365.0]},
            },
            "model": {"hidden": 16, "heads": 2, "layers": 1, "fusion_layers": 1},
            "training": {"stages": [{"level": "full", "rounds": rounds}], "batch": 0},
            "aggregation": {"strategy": "fedadam"},
            "evaluation": {"every": 50},
        }
    )


def benchmark_sites(study: Study, sites: int) -> list[SiteData]:
    """Sites of random patients."""
    topology = build_topology(study.contract, None)
    return [_random_site(study, topology, f"site-{number:03d}") for number in range(sites)]


def _random_site(study: Study, topology: Topology, name: str) -> SiteData:
    draw = numpy_generator(study.study.seed, "benchmark", name)
    nodes = {}
    for node_type, listed in topology.nodes.items():
        values = draw.normal(size=(PATIENTS, len(listed), 1)).astype(np.float32)
        nodes[node_type] = NodeTensors(torch.from_numpy(values), torch.ones(values.shape, dtype=torch.bool))
    time_days = draw.exponential(900.0, size=PATIENTS).astype(np.float32) + 1.0
    outcomes = Outcomes(
        torch.from_numpy(time_days),
        torch.from_numpy((draw.random(PATIENTS) < 0.6).astype(np.float32)),
        torch.ones(PATIENTS, dtype=torch.bool),
        torch.full((PATIENTS,), -1, dtype=torch.int64),
        torch.zeros(PATIENTS, 0),
        torch.zeros(PATIENTS, 0, dtype=torch.bool),
    )
    patients = PatientTensors(tuple(f"{name}-{i}" for i in range(PATIENTS)), nodes, outcomes)
    held_out = study.held_out_rule.held_out(patients.patient_ids, name)
    return SiteData(name, patients, held_out, topology)
