"""``mmfed-simulate reproduce``: published benchmarks, run again."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_simulations.cli.arguments import OutFolder, Workers
from mmfed_simulations.cli.progress import trainings_bar


class BenchmarkName(StrEnum):
    """A published benchmark."""

    fed_tcga_brca = "fed-tcga-brca"
    fed_heart_disease = "fed-heart-disease"


def reproduce(
    benchmark: Annotated[BenchmarkName, typer.Argument(help="Which published benchmark.")],
    data: Annotated[
        Path,
        typer.Option(help="Folder with the benchmark's tables and published figures.", show_default=False),
    ],
    out: OutFolder,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings on the published split.")] = 5,
    partitions: Annotated[
        int, typer.Option(min=0, help="Fresh partitions of all patients for cross-validation.")
    ] = 4,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Run a published federated benchmark again: its sites, its split, its metric, its figures beside ours.

    fed-tcga-brca: survival with breast cancer, six regions. fed-heart-disease: coronary disease, four
    hospitals. Both are FLamby's. The same command goes on after an interruption; what it printed stays in
    reproduced.txt and reproduced.json.

    Examples:

        mmfed-simulate reproduce fed-tcga-brca --data ../shared/data/fed_tcga_brca --out brca
        mmfed-simulate reproduce fed-heart-disease --data ../shared/data/cardio --out heart --partitions 0
    """
    from mmfed_common.durable import write_durably
    from mmfed_simulations.reproduction.benchmarks import BENCHMARKS
    from mmfed_simulations.reproduction.table import EXPLANATION, tables, text
    from mmfed_simulations.reproduction.trials import plain
    from mmfed_simulations.reproduction.trials import reproduce as run_again

    loaded = BENCHMARKS[benchmark.value].open(data, out)
    with trainings_bar() as progress:
        found = run_again(
            loaded,
            out,
            seeds=seeds,
            partitions=partitions,
            workers=workers,
            progress=progress,
        )
    write_durably(out / "reproduced.txt", text(loaded, found).encode())
    if as_json:
        print_json(plain(loaded, found))
        return
    for table in tables(loaded, found):
        stdout().print(table)
    stdout().print(EXPLANATION, markup=False)
