"""``mmfed-server runs``: the history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_server.cli.arguments import FederationFolder, federation_in
from mmfed_server.cli.queue import as_dict

if TYPE_CHECKING:
    from mmfed_server.record.catalogue import RunCatalogue

app = typer.Typer(help="The runs of this federation: list them, or show one.")

RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, as `mmfed-server runs` lists it.")]


@app.callback(invoke_without_command=True)
def _default(context: typer.Context, folder: FederationFolder = None, as_json: AsJson = False) -> None:
    """The runs of this federation; without a further word: list them.

    Examples:

        mmfed-server runs --dir fed
        mmfed-server runs show RUN --dir fed
    """
    if context.invoked_subcommand is None:
        list_runs(folder, as_json=as_json)


@app.command("list")
def list_runs(folder: FederationFolder = None, as_json: AsJson = False) -> None:
    """List every run, the newest first, and the studies that wait for their turn."""
    from mmfed_server.studies.queue import StudyQueue

    with catalogue_of(folder) as catalogue:
        found = catalogue.runs()
        queue = StudyQueue(catalogue.engine).entries()
    if as_json:
        queued = [as_dict(entry, place) for place, entry in enumerate(queue, start=1)]
        print_json({"runs": [vars(run) for run in found], "queue": queued})
        return
    table = Table(title=f"{len(found)} runs", title_justify="left")
    for heading in ("run", "study", "state", "rounds", "begun (UTC)", "why"):
        table.add_column(heading, overflow="fold")
    begun = {run.study_hash for run in found if not run.finished}
    for entry in reversed(queue):
        if entry.study_hash not in begun:
            table.add_row(entry.study_name, entry.study_hash[:12], "waits for its turn", "", "", "")
    for run in found:
        done = f"{run.next_round - 1}/{run.rounds}"
        why = f"{run.code} {run.reason}".strip() if not run.superseded_by else f"see {run.superseded_by}"
        state = "replaced" if run.superseded_by else run.status
        table.add_row(run.run, run.study_hash[:12], state, done, run.created[:16].replace("T", " "), why)
    stdout().print(table)


@app.command()
def show(run: RunName, folder: FederationFolder = None, as_json: AsJson = False) -> None:
    """Show one run: its rounds, its figures, what each site did."""
    with catalogue_of(folder) as catalogue:
        summary = catalogue.run(run)
        rounds, sites = catalogue.rounds(run), catalogue.sites(run)
    if as_json:
        print_json({**vars(summary), "history": rounds, "sites": sites})
        return
    from mmfed_server.cli.status import rounds_table

    console = stdout()
    state = f"{summary.status} {summary.code} {summary.reason}".strip()
    console.print(f"{summary.run}: {state}", markup=False)
    console.print(f"study {summary.study_name} {summary.study_hash}", markup=False)
    if summary.replaces:
        told = f"replaces {summary.replaces}, without {', '.join(summary.without)}"
        console.print(told, markup=False, soft_wrap=True)
    if summary.superseded_by:
        told = f"replaced by {summary.superseded_by}: do not use this run's model"
        console.print(told, markup=False, soft_wrap=True, style="yellow")
    console.print(rounds_table(rounds, "rounds"))
    table = Table(title="sites", title_justify="left")
    for heading in (
        "site",
        "patients",
        "rounds",
        "seconds",
        "bytes up",
        "bytes down",
        "refusals",
        "last refusal",
    ):
        table.add_column(heading, overflow="fold")
    for site in sites:
        seconds = f"{site['seconds']:.1f}"
        counts = [str(site[key]) for key in ("bytes_up", "bytes_down", "refusals")]
        name, patients, taken = site["site"], str(site["patients"]), str(site["rounds"])
        table.add_row(name, patients, taken, seconds, *counts, site["last_refusal"])
    console.print(table)


@contextmanager
def catalogue_of(folder: Path | None) -> Iterator[RunCatalogue]:
    """Open the catalogue of a federation; errors as the database's."""
    from mmfed_server.database import open_database
    from mmfed_server.record.catalogue import RunCatalogue

    engine = open_database(federation_in(folder).database_url)
    try:
        yield RunCatalogue(engine)
    finally:
        engine.dispose()
