"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmfed_server.federation import Federation

FederationFolder = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        help="The federation's folder; default: $MMFED_FEDERATION, or the current folder.",
        metavar="DIR",
    ),
]
StudyFile = Annotated[Path, typer.Argument(metavar="FILE", help="study.toml, or a study that is signed.")]


def federation_in(folder: Path | None) -> Federation:
    """Open the federation that a command means.

    Raises
    ------
    NetworkError
        ``MMF-432`` when there is none.
    """
    from mmfed_server.federation import Federation

    return Federation.load(folder or Federation.default_path())
