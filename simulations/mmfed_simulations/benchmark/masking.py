"""What secure aggregation costs: the same rounds with and without masks, in this process, in turns."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from mmfed_common.graph import build_topology
from mmfed_common.model import build_model
from mmfed_common.study import Study
from mmfed_common.threads import cores
from mmfed_server.plan import RoundReport
from mmfed_simulations.benchmark.rounds import benchmark_sites
from mmfed_simulations.run import run_study

FIRST_HIDDEN = 64


def run_masking_benchmark(
    sites: int = 20,
    parameters: int = 1_000_000,
    rounds: int = 3,
    *,
    repeats: int = 2,
    threads: int = 2,
    told: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run a study plainly and masked, in turns, and measure each round but a run's first.

    All sites train and mask one after another in this process, so that a masked round's cost is that of all
    sites' machines together.

    Parameters
    ----------
    sites, parameters
        How many sites, and about how many numbers are in an update.
    rounds
        Of each run.
    repeats
        Runs of each kind.
    threads
        For the tensors.
    told
        Called with what is about to run.

    Returns
    -------
    dict
        ``sites``, ``parameters``, ``threads``, ``cores`` (that masks and signatures may use),
        ``plain_seconds``, ``masked_seconds`` (medians of a round), ``ratio``, ``megabytes_plain``,
        ``megabytes_masked`` (an update), ``largest_difference`` of the final
        weights.
    """
    torch.set_num_threads(threads)
    plain, size = masking_study(sites, parameters, rounds)
    masked = plain.with_changes(aggregation={"secure": True})
    seconds: dict[bool, list[float]] = {False: [], True: []}
    weights: dict[bool, dict[str, torch.Tensor]] = {}
    for turn in range(repeats):
        for study in (plain, masked):
            secure = study.aggregation.secure
            if told is not None:
                told(f"{'masked' if secure else 'plain'} run {turn + 1} of {repeats}")
            weights[secure], measured = _run(study, sites)
            seconds[secure] += measured
    medians = {secure: statistics.median(found) for secure, found in seconds.items()}
    differences = [float((weights[True][name] - w).abs().max()) for name, w in weights[False].items()]
    return {
        "sites": sites,
        "parameters": size,
        "threads": threads,
        "cores": cores(),
        "plain_seconds": medians[False],
        "masked_seconds": medians[True],
        "ratio": medians[True] / medians[False],
        "megabytes_plain": 4e-6 * size,
        "megabytes_masked": 8e-6 * size,
        "largest_difference": max(differences),
    }


def masking_study(sites: int, parameters: int, rounds: int) -> tuple[Study, int]:
    """A plain study whose update has about so many numbers, and how many it has."""

    def study_of(hidden: int) -> Study:
        """The study with a model of this width."""
        return Study.from_content(
            {
                "study": {"name": "benchmark-masking", "seed": 1},
                "contract": {
                    "clinical": {f"c{i}": {"kind": "number"} for i in range(4)},
                    "normalisation": "reference",
                    "survival": {"bins": [365.0, 730.0, 1460.0, 2920.0], "horizons": [365.0]},
                },
                "model": {"hidden": hidden, "layers": 1, "fusion_layers": 1},
                "training": {
                    "stages": [{"level": "full", "rounds": rounds, "learning_rate": 0.01}],
                    "batch": 0,
                    "optimiser": "sgd",
                },
                "aggregation": {"minimum_sites": sites},
                "evaluation": {"rule": "none"},
            }
        )

    def size_of(study: Study) -> int:
        model = build_model(study, build_topology(study.contract, None))
        trained = (t for name, t in model.state_dict().items() if model.block_of(name) == "full")
        return sum(math.prod(tensor.shape) for tensor in trained)

    size = size_of(study_of(FIRST_HIDDEN))
    # Most weights are hidden × hidden.
    study = study_of(max(4, 4 * round(FIRST_HIDDEN * math.sqrt(parameters / size) / 4)))
    return study, size_of(study)


def masking_table(result: dict[str, Any]) -> Table:
    """Print a result."""
    title = f"Secure aggregation, {result['sites']} sites, {result['parameters']:,} numbers an update"
    table = Table(title=title, title_justify="left")
    for name in ("", "s/round", "MB/update"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("plain", f"{result['plain_seconds']:.2f}", f"{result['megabytes_plain']:.1f}")
    table.add_row("masked", f"{result['masked_seconds']:.2f}", f"{result['megabytes_masked']:.1f}")
    table.add_row("ratio", f"{result['ratio']:.2f}", "2.0")
    table.caption = f"largest difference of the two runs' weights: {result['largest_difference']:.1e}"
    return table


def _run(study: Study, sites: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    seconds: list[float] = []

    def watch(report: RoundReport) -> None:
        seconds.append(report.seconds)

    with tempfile.TemporaryDirectory() as folder:
        data = benchmark_sites(study, sites)
        result = run_study(study, data, Path(folder) / "run", progress=watch)
    return result.state, seconds[1:]
