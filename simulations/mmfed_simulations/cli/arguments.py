"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="The study: study.toml.")]
CohortFolder = Annotated[
    Path,
    typer.Option("--cohort", help="Folder with cohort.toml, or with one sub-folder a site that has one."),
]
DataRoot = Annotated[
    Path | None, typer.Option("--data", help="Where the tables lie, if not beside cohort.toml.")
]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
