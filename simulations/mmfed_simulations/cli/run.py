"""``mmfed-simulate run``: one federation on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmfed_common.command_line.output import AsJson, print_json, progress_bar, stdout
from mmfed_simulations.cli.arguments import CohortFolder, DataRoot, OutFolder, StudyFile

if TYPE_CHECKING:
    from mmfed_simulations.consortium import LoadedConsortium


class Backend(StrEnum):
    """What carries messages between server and sites."""

    inprocess = "inprocess"
    ray = "ray"


def run(
    study: StudyFile,
    cohort: CohortFolder,
    out: OutFolder,
    data: DataRoot = None,
    backend: Annotated[
        Backend, typer.Option(help="inprocess: in this process. ray: Flower's engine, for many sites.")
    ] = Backend.inprocess,
    workers: Annotated[int, typer.Option(min=1, help="How many sites train at the same time.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    prepare_only: Annotated[
        bool, typer.Option("--prepare-only", help="Write the run's folder for `flwr run .` and stop.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run one federation: every site trains on its own patients, only weights are shared.

    Writes results.json, predictions.parquet, report.html, events.jsonl and model/ to --out. A run that was
    killed goes on with --resume, to the same weights.

    Examples:

        mmfed-simulate run demo/lung/study.toml --cohort demo/lung --out demo/lung-run
        mmfed-simulate run study.toml --cohort sites --out result --workers 2
        mmfed-simulate run study.toml --cohort sites --out result --resume
    """
    from mmfed_simulations.cli.loading import load

    loaded = load(study, cohort, data)
    if prepare_only:
        _prepare(loaded, out, study.parent, as_json=as_json)
        return
    results = _federate(loaded, out, study.parent, backend.value, workers, resume=resume)
    if as_json:
        print_json(results)
        return
    from mmfed_simulations.evaluation.table import explanation, result_tables, start_table

    console = stdout()
    if "started_from" in results:
        console.print(start_table(results["started_from"]))
    for table in result_tables(results):
        console.print(table)
    console.print(explanation(results), markup=False)
    console.print(f"Report: {out / 'report.html'}", markup=False, soft_wrap=True)


def _prepare(loaded: LoadedConsortium, out: Path, files: Path, *, as_json: bool) -> None:
    from mmfed_simulations.run import prepare_run

    prepare_run(loaded.study, loaded.sites(), out, files)
    command = f"flwr run . -c 'run-dir=\"{out.resolve()}\"'"
    if as_json:
        print_json({"run": str(out), "command": command})
    else:
        print(f"Prepared {out}. Run it with Flower: {command}")


def _federate(
    loaded: LoadedConsortium, out: Path, files: Path, backend: str, workers: int, *, resume: bool
) -> dict[str, Any]:
    from mmfed_simulations.evaluation.run_results import finish_run
    from mmfed_simulations.run import run_study

    sites = loaded.sites()
    with progress_bar() as bar:
        task = bar.add_task("federation", total=loaded.study.training.rounds)
        result = run_study(
            loaded.study,
            sites,
            out,
            backend=backend,
            workers=workers,
            resume=resume,
            files=files,
            progress=lambda report: bar.update(
                task, completed=report.round, description=f"{report.stage}, {len(report.sites)} sites"
            ),
        )
        bar.update(task, description="evaluation")
        return finish_run(loaded.study, sites, result, out)
