"""Arguments that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Folds(StrEnum):
    """How patients are split."""

    cohort = "cohort"
    random = "random"
    leave_site_out = "leave-site-out"


StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="The study: study.toml.")]
CohortFolder = Annotated[
    Path,
    typer.Option("--cohort", help="Folder with cohort.toml, or with one sub-folder a site that has one."),
]
DataRoot = Annotated[
    Path | None, typer.Option("--data", help="Where the tables lie, if not beside cohort.toml.")
]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
FoldRuleOption = Annotated[
    Folds | None, typer.Option(help="By default the cohort's own folds where it has them, else random.")
]
Workers = Annotated[int, typer.Option(min=1, help="Processes, of one thread each.")]
