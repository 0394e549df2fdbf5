"""What commands print: results on stdout, progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]

PLAIN_WIDTH = 150


def stdout() -> Console:
    """A console for results; wide where the output is no terminal, so that tables stay whole."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def print_json(content: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(content, indent=2, default=str))


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A progress bar on stderr; it disappears when done, and is not drawn where stderr is no terminal."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar
