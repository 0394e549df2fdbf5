"""The entry point of ``mmfed-client``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmfed_common.command_line.program import run as run_program

if TYPE_CHECKING:
    import typer

INTERRUPTED = "Stopped. Nothing is lost: the same command goes on where it was."


def run(arguments: Sequence[str]) -> int:
    """Run one command; gives the exit code."""
    return run_program(_app, "mmfed-client", arguments, interrupted=INTERRUPTED)


def main() -> None:
    """Run the command that the process was started with."""
    sys.exit(run(sys.argv[1:]))


def _app() -> typer.Typer:
    from mmfed_client.cli.app import app

    return app
