"""The entry point of ``mmfed-server``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmfed_common.command_line.program import run as run_program

INTERRUPTED = "Stopped. Every whole round is safe: `mmfed-server start` goes on with the same run."


def run(arguments: Sequence[str]) -> int:
    """Run one command; gives the exit code."""
    from mmfed_server.cli.app import app

    return run_program(app, "mmfed-server", arguments, interrupted=INTERRUPTED)


def main() -> None:
    """Run the command that the process was started with."""
    sys.exit(run(sys.argv[1:]))
