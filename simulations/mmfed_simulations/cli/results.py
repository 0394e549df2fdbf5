"""``mmfed-simulate results``: the tables of docs/results, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmfed_common.command_line.output import AsJson, print_json, progress_bar, stdout
from mmfed_simulations.cli.arguments import Workers


def results(
    data: Annotated[Path, typer.Option(help="Folder of the public data.")] = Path("../shared/data"),
    studies: Annotated[Path, typer.Option(help="Folder of the studies.")] = Path("simulations/studies"),
    out: Annotated[Path, typer.Option(help="Where trainings are kept.")] = Path("runs/results"),
    docs: Annotated[Path, typer.Option(help="Where the pages go.")] = Path("docs/results"),
    only: Annotated[
        list[str] | None,
        typer.Option(help="TABLE, TABLE/COHORT or TABLE/COHORT/ROW; may be given again. By default all."),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Name the rows and stop.")] = False,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Make the tables of docs/results again from public data, row by row, each with a JSON file beside it.

    Every training is kept in --out by the hash of its study and data, so the same command goes on after an
    interruption, a row can be made alone, and only what a change touches is trained again.

    Examples:

        mmfed-simulate results --list
        mmfed-simulate results --only field/LUAD
        mmfed-simulate results --only methods/KIRC/full-mean --only methods/KIRC/full-shuffled
    """
    from mmfed_simulations.tables.cohorts import Places
    from mmfed_simulations.tables.table import Workshop
    from mmfed_simulations.tables.writing import make_tables, wanted_rows

    wanted = wanted_rows(only or ())
    if listed:
        names = [f"{table.name}/{row}" for table, rows in wanted.items() for row in rows]
        if as_json:
            print_json({"rows": names})
        else:
            stdout().print("\n".join(names), markup=False, highlight=False)
        return
    with progress_bar() as bar:
        task = bar.add_task("rows", total=None)
        workshop = Workshop(
            Places(studies, data, out), workers, lambda what: bar.update(task, description=what)
        )
        made = make_tables(
            wanted,
            workshop,
            docs,
            lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
        )
    if as_json:
        pages = [str(page) for page in made.pages]
        print_json({"pages": pages, "seconds": made.seconds, "rows_of_unknown_time": made.unknown})
        return
    for page in made.pages:
        stdout().print(f"Page: {page}", markup=False, soft_wrap=True)
    unknown = f"; of {made.unknown} rows it is not known" if made.unknown else ""
    stdout().print(f"Making these rows took {made.seconds / 60:.1f} min in all{unknown}.", markup=False)
