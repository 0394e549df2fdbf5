"""``mmfed-simulate compare``: federated against local, pooled and the baselines, cross-validated."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_simulations.cli.arguments import (
    CohortFolder,
    DataRoot,
    FoldRuleOption,
    OutFolder,
    StudyFile,
    Workers,
)
from mmfed_simulations.cli.progress import trainings_bar


class Calibration(StrEnum):
    """Whose predictions calibrate a fold."""

    cross_fitted = "cross-fitted"
    nested = "nested"


def compare(
    study: StudyFile,
    cohort: CohortFolder,
    out: OutFolder,
    data: DataRoot = None,
    arms: Annotated[
        str | None,
        typer.Option(help="Arms, separated by commas; by default every one that the study allows."),
    ] = None,
    folds: FoldRuleOption = None,
    calibration: Annotated[
        Calibration,
        typer.Option(
            help="Who gives a fold its lower bounds and temperatures: the other folds' held-out patients, or "
            "the same scored by models that did not train on the fold either (one training more a pair of "
            "folds)."
        ),
    ] = Calibration.cross_fitted,
    workers: Workers = 2,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train everything again, even what --out holds already.")
    ] = False,
    sites: Annotated[
        bool, typer.Option("--sites", help="Also print what the federation is worth at each site.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the federation with its alternatives on identical patients, with paired differences.

    Arms: federated, local (every site alone), personalised (federated, then each site's own head), pooled,
    Cox and other baselines, single modalities, late fusion, attention fusion. Sites whose labels seem to be
    flipped are named. The same command goes on after an interruption.

    Examples:

        mmfed-simulate compare demo/lung/study.toml --cohort demo/lung --out demo/lung-compare
        mmfed-simulate compare study.toml --cohort sites --out c --arms federated,local,pooled,cox_clinical
        mmfed-simulate compare study.toml --cohort sites --out c --arms federated,local,personalised --sites
        mmfed-simulate compare study.toml --cohort sites --out c --folds leave-site-out
        mmfed-simulate compare study.toml --cohort sites --out c --calibration nested
    """
    from mmfed_simulations.cli.loading import load
    from mmfed_simulations.evaluation.calibrating.figures import calibration_summary
    from mmfed_simulations.evaluation.compare import compare as compare_arms
    from mmfed_simulations.evaluation.hospital.table import judged_sentence, site_tables, worth_sentences
    from mmfed_simulations.evaluation.table import explanation, result_tables

    loaded = load(study, cohort, data)
    with trainings_bar("comparison") as progress:
        comparison = compare_arms(
            loaded.study,
            loaded.cohort,
            loaded.topology,
            out,
            arms=None if arms is None else [name.strip() for name in arms.split(",") if name.strip()],
            folds=None if folds is None else folds.value,
            calibration=calibration.value,
            workers=workers,
            resume=not fresh,
            files=study.parent,
            progress=progress,
        )
    if as_json:
        print_json(comparison.results)
        return
    console = stdout()
    for table in result_tables(comparison.results):
        console.print(table)
    for table in site_tables(comparison.results) if sites else []:
        console.print(table)
    for line in calibration_summary(comparison.results):
        console.print(line, markup=False)
    console.print(explanation(comparison.results), markup=False)
    worth = comparison.results["worth"]
    for sentence in worth_sentences(worth):
        console.print(sentence, markup=False)
    if worth["summary"]:
        console.print(judged_sentence(worth), markup=False)
    console.print(f"Report: {comparison.report}", markup=False, soft_wrap=True)
