"""``mmfed-simulate benchmark``: speed, memory and bytes."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Measure speed, memory and bytes on this machine.")
