"""``mmfed-simulate pretrain``: one federation over several cohorts, for other studies to start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmfed_common.command_line.output import AsJson, print_json, progress_bar, stdout
from mmfed_simulations.cli.arguments import StudyFile

if TYPE_CHECKING:
    from mmfed_simulations.consortium import LoadedConsortium


def pretrain(
    study: StudyFile,
    cohort: Annotated[
        list[Path],
        typer.Option("--cohort", help="A cohort's folder, as for run; give it once for each cohort."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the bundle; the run lies in OUT.run.")],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Where a cohort's tables lie, if not beside its cohort.toml, in order."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="How many sites train at the same time.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT.run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train one model over the sites of several cohorts, and release it as a bundle.

    Another study starts from the bundle with `[model] start_from`: genes, proteins, pathways and clinical
    columns are matched by name, so that it may be of another cancer or disease. Stages with `objective =
    "masked_nodes"` or `"contrastive"` need no outcome. A site that has the name of another cohort's gets its
    cohort's name in front. A run that was killed goes on with --resume, to the same weights.

    Take care that no patient who is held out later takes part here.

    Examples:

        mmfed-simulate pretrain before.toml --cohort cohorts/BRCA --cohort cohorts/KIRC --out pretrained
        mmfed-simulate pretrain before.toml --cohort a --data tables/a --cohort b --data tables/b --out p
    """
    from mmfed_simulations.pretraining import pretrain as train

    loaded = _load(study, cohort, data or [])
    with progress_bar() as bar:
        task = bar.add_task("federation", total=loaded.study.training.rounds)
        results = train(
            loaded,
            out,
            workers=workers,
            resume=resume,
            files=study.parent,
            progress=lambda report: bar.update(
                task, completed=report.round, description=f"{report.stage}, {len(report.sites)} sites"
            ),
        )
    if as_json:
        print_json(results)
        return
    from mmfed_simulations.evaluation.table import start_table

    console = stdout()
    if "started_from" in results:
        console.print(start_table(results["started_from"]))
    trained = sum(site["train"] for site in results["sites"])
    console.print(f"Trained on {trained} patients of {len(results['sites'])} sites.", markup=False)
    console.print("Another study starts from it with, under [model]:", markup=False)
    line = f'start_from = {{ file = "{out.name}", sha256 = "{results["sha256"]}" }}'
    console.print(line, markup=False, soft_wrap=True, highlight=False)


def _load(study_file: Path, cohorts: list[Path], data: list[Path]) -> LoadedConsortium:
    from mmfed_common.study import Study
    from mmfed_simulations.cli.loading import load_cohorts
    from mmfed_simulations.consortium import join_consortia
    from mmfed_simulations.pretraining import cohort_names

    if data and len(data) != len(cohorts):
        raise typer.BadParameter("give --data once for each --cohort, in the same order, or not at all")
    study = Study.load(study_file)
    roots: list[Path | None] = [*data] if data else [None] * len(cohorts)
    parts = [
        load_cohorts(study, study_file.parent, folder, root)
        for folder, root in zip(cohorts, roots, strict=True)
    ]
    return join_consortia(dict(zip(cohort_names(cohorts), parts, strict=True)))
