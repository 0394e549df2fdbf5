"""The entry point of ``mmfed-client``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmfed_common.command_line.program import run as run_program

INTERRUPTED = "Stopped. Nothing is lost: the same command goes on where it was."


def run(arguments: Sequence[str]) -> int:
    """Run one command; gives the exit code."""
    from mmfed_client.cli.app import app

    return run_program(app, "mmfed-client", arguments, interrupted=INTERRUPTED)


def main() -> None:
    """Run the command that the process was started with."""
    sys.exit(run(sys.argv[1:]))
