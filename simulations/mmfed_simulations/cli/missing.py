"""``mmfed-simulate missing``: what it costs that patients lack modalities."""

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


class Against(StrEnum):
    """Which subsets are also trained alone."""

    every = "every"
    omics = "omics"
    none = "none"


def missing(
    study: StudyFile,
    cohort: CohortFolder,
    out: OutFolder,
    data: DataRoot = None,
    share: Annotated[
        list[float] | None,
        typer.Option(
            min=0.01,
            max=0.99,
            help="Share of the training patients that lose each modality but the clinical one; may be given "
            "again. By default 0.2, 0.4 and 0.6.",
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(min=1, help="How often each share is trained, with other patients who lose.")
    ] = 1,
    against: Annotated[
        Against,
        typer.Option(
            help="Which subsets are also trained alone, to compare with: every; omics: only the one without "
            "genes, proteins and metabolites; none. With five modalities, every is 30 trainings a fold."
        ),
    ] = Against.every,
    folds: FoldRuleOption = None,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Hide modalities from patients, at test and in training, and print what that costs.

    At test: a federation trained on everything predicts the held-out patients with every subset of the
    modalities, beside the same federation trained on that subset alone. In training: each modality but the
    clinical one is taken from 20, 40 and 60 % of the training patients, never of those held out. What is
    hidden looks as if it had never been measured. The same command goes on after an interruption.

    Examples:

        mmfed-simulate missing study.toml --cohort sites --out m
        mmfed-simulate missing study.toml --cohort sites --out m --share 0.5 --draws 3 --against omics
        mmfed-simulate missing study.toml --cohort sites --out m --folds leave-site-out --json
    """
    from mmfed_simulations.cli.loading import load
    from mmfed_simulations.evaluation.gaps.missing import SHARES
    from mmfed_simulations.evaluation.gaps.missing import missing as measure
    from mmfed_simulations.evaluation.gaps.table import missing_explanation, missing_tables

    loaded = load(study, cohort, data)
    with trainings_bar() as progress:
        results = measure(
            loaded.study,
            loaded.cohort,
            loaded.topology,
            out,
            shares=sorted(set(share)) if share else SHARES,
            draws=draws,
            against=against.value,
            folds=None if folds is None else folds.value,
            workers=workers,
            progress=progress,
            files=study.parent,
        )
    if as_json:
        print_json(results)
        return
    console = stdout()
    for table in missing_tables(results):
        console.print(table)
    console.print(missing_explanation(results), markup=False)
