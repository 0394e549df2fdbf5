"""The entry point of ``mmfed-simulate``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmfed_common.command_line.program import run as run_program


def run(arguments: Sequence[str]) -> int:
    """Run one command; gives the exit code."""
    from mmfed_simulations.cli.app import app

    return run_program(app, "mmfed-simulate", arguments)


def main() -> None:
    """Run the command that the process was started with."""
    sys.exit(run(sys.argv[1:]))
