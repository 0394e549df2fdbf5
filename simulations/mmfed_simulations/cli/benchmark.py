"""``mmfed-simulate benchmark``: speed, memory and bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mmfed_common.command_line.output import AsJson, print_json, progress_bar, stdout
from mmfed_common.knowledge import KnowledgePack

app = typer.Typer(no_args_is_help=True, help="Measure speed and memory on this machine.")


@app.command()
def training(
    knowledge: Annotated[
        Path | None, typer.Option(help="Use this pack's best connected genes; by default a random graph.")
    ] = None,
    genes: Annotated[int, typer.Option(min=10)] = 1500,
    proteins: Annotated[int, typer.Option(min=2)] = 250,
    repeats: Annotated[int, typer.Option(min=1, help="How often each form is measured, in turns.")] = 7,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    as_json: AsJson = False,
) -> None:
    """Patients per second, forward and backward, beside the same model written with PyG.

    Examples:

        mmfed-simulate benchmark training
        mmfed-simulate benchmark training --knowledge hallmark.mmfk --json
    """
    from mmfed_simulations.benchmark.training import TrainingBenchmark, run_training_benchmark

    pack = None if knowledge is None else KnowledgePack.load(knowledge)
    sizes = TrainingBenchmark(genes=genes, proteins=proteins, repeats=repeats, threads=threads)
    result = run_training_benchmark(pack, sizes)
    if as_json:
        print_json(result)
    else:
        stdout().print(_training_table(result))


@app.command()
def rounds(
    rounds: Annotated[int, typer.Option(min=20, help="How many rounds.")] = 500,
    sites: Annotated[int, typer.Option(min=2, help="How many sites, 30 patients each.")] = 20,
    ray: Annotated[bool, typer.Option("--ray", help="Also measure the same apps on Ray.")] = False,
    ray_rounds: Annotated[int, typer.Option(min=20, help="Rounds on Ray.")] = 50,
    workers: Annotated[int, typer.Option(min=1)] = 1,
    as_json: AsJson = False,
) -> None:
    """Seconds a round and memory growth with small sites, in this process and on Ray.

    Examples:

        mmfed-simulate benchmark rounds
        mmfed-simulate benchmark rounds --rounds 100 --ray
    """
    from mmfed_simulations.benchmark.rounds import rounds_table, run_rounds_benchmark

    results = []
    planned = [("inprocess", rounds), *([("ray", ray_rounds)] if ray else [])]
    for backend, count in planned:
        with progress_bar() as bar:
            task = bar.add_task(backend, total=count)

            def told(done: int, task: Any = task, bar: Any = bar) -> None:
                bar.update(task, completed=done)

            results.append(run_rounds_benchmark(count, sites, backend, workers=workers, progress=told))
    if as_json:
        print_json(results)
    else:
        stdout().print(rounds_table(results))


@app.command()
def federation(
    sites: Annotated[list[int] | None, typer.Option(help="How many sites; may be given again.")] = None,
    megabytes: Annotated[list[float] | None, typer.Option(help="About how large an update.")] = None,
    rounds: Annotated[int, typer.Option(min=3)] = 8,
    stock: Annotated[bool, typer.Option(help="Also measure stock Flower, in the same run.")] = True,
    as_json: AsJson = False,
) -> None:
    """Seconds a round between real processes, beside stock Flower with the same arrays.

    Starts a coordinator and sites on loopback with the very commands that people type.

    Examples:

        mmfed-simulate benchmark federation
        mmfed-simulate benchmark federation --sites 3 --sites 20 --megabytes 1 --no-stock
    """
    from mmfed_simulations.benchmark.federation.compare import federation_table, run_federation_benchmark

    results = []
    with progress_bar() as bar:
        task = bar.add_task("federation", total=None)
        for size in megabytes or [1.0, 50.0]:
            for count in sites or [3]:

                def told(what: str, size: float = size, count: int = count) -> None:
                    bar.update(task, description=f"{what}, {count} sites, {size:g} MB")

                results.append(run_federation_benchmark(count, size, rounds, stock=stock, told=told))
    if as_json:
        print_json(results)
    else:
        stdout().print(federation_table(results))


@app.command()
def masking(
    sites: Annotated[int, typer.Option(min=3, help="How many sites.")] = 20,
    parameters: Annotated[int, typer.Option(min=1000, help="About how many numbers are in an update.")] = 10
    ** 6,
    rounds: Annotated[int, typer.Option(min=2)] = 3,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each kind, in turns.")] = 2,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    as_json: AsJson = False,
) -> None:
    """Seconds a round with secure aggregation, beside the same round without it.

    Examples:

        mmfed-simulate benchmark masking
        mmfed-simulate benchmark masking --sites 5 --parameters 100000 --json
    """
    from mmfed_simulations.benchmark.masking import masking_table, run_masking_benchmark

    with progress_bar() as bar:
        task = bar.add_task("masking", total=None)
        result = run_masking_benchmark(
            sites,
            parameters,
            rounds,
            repeats=repeats,
            threads=threads,
            told=lambda what: bar.update(task, description=what),
        )
    if as_json:
        print_json(result)
    else:
        stdout().print(masking_table(result))


@app.command()
def privacy(
    genes: Annotated[int, typer.Option(min=10)] = 1500,
    proteins: Annotated[int, typer.Option(min=2)] = 250,
    repeats: Annotated[int, typer.Option(min=1, help="How often each form is measured, in turns.")] = 7,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    trainable: Annotated[list[str] | None, typer.Option(help="What moves; may be given again.")] = None,
    as_json: AsJson = False,
) -> None:
    """Seconds a training step, with and without differential privacy, beside plain Opacus with vmap.

    Examples:

        mmfed-simulate benchmark privacy
        mmfed-simulate benchmark privacy --trainable all --trainable heads --threads 1
    """
    from mmfed_common.trainable import BY_SIZE
    from mmfed_simulations.benchmark.privacy import privacy_table, run_privacy_benchmark
    from mmfed_simulations.benchmark.training import TrainingBenchmark

    asked = trainable or ["all"]
    wrong = [choice for choice in asked if choice not in BY_SIZE]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]}; choose among {', '.join(BY_SIZE)}")
    sizes = TrainingBenchmark(genes=genes, proteins=proteins, repeats=repeats, threads=threads)
    results = [run_privacy_benchmark(sizes, choice) for choice in BY_SIZE if choice in asked]
    if as_json:
        print_json(results)
    else:
        stdout().print(privacy_table(results))


@app.command()
def compression(
    study: Annotated[
        Path | None, typer.Option(help="study.toml; by default a synthetic consortium's.")
    ] = None,
    cohort: Annotated[Path | None, typer.Option(help="The cohorts that belong to --study.")] = None,
    sites: Annotated[int, typer.Option(min=2, help="Sites of the synthetic consortium.")] = 4,
    patients: Annotated[int, typer.Option(min=50, help="Patients of the synthetic consortium.")] = 400,
    as_json: AsJson = False,
) -> None:
    """Bytes that travel up and C-index with each type of compressed update, beside none.

    Examples:

        mmfed-simulate benchmark compression
        mmfed-simulate benchmark compression --study demo/lung/study.toml --cohort demo/lung --json
    """
    import tempfile

    from mmfed_simulations.benchmark.compression import (
        compression_table,
        run_compression_benchmark,
        synthetic_study,
    )
    from mmfed_simulations.cli.loading import load
    from mmfed_simulations.synthetic import SyntheticSettings

    if (study is None) != (cohort is None):
        raise typer.BadParameter("--study and --cohort belong together")
    with tempfile.TemporaryDirectory() as folder:
        if study is None or cohort is None:
            settings = SyntheticSettings(sites=sites, patients=patients, genes=120, pathways=12)
            chosen, data = synthetic_study(Path(folder) / "consortium", settings)
        else:
            loaded = load(study, cohort, None)
            chosen, data = loaded.study, loaded.sites()
        with progress_bar() as bar:
            task = bar.add_task("compression", total=None)
            results = run_compression_benchmark(
                chosen, data, told=lambda what: bar.update(task, description=what)
            )
    if as_json:
        print_json(results)
    else:
        stdout().print(compression_table(results))


def _training_table(result: dict[str, Any]) -> Table:
    nodes = ", ".join(f"{count} {name}" for name, count in result["nodes"].items())
    table = Table(
        title=f"Training step, {result['graph']}: {nodes}; batch {result['batch']}", title_justify="left"
    )
    table.add_column("form")
    table.add_column("patients/s", justify="right")
    table.add_row("mmfed", f"{result['ours']:.1f}")
    table.add_row("PyG HeteroData + GATConv", f"{result['pyg']:.1f}")
    ratio = result["ratio"]
    table.add_row("ratio", f"{ratio['estimate']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})")
    table.caption = f"largest difference of the two forms' losses: {result['largest_loss_difference']:.1e}"
    return table
