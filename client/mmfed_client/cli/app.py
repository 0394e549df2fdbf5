"""The commands of ``mmfed-client``, wired together."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="mmfed-client",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(
    epilog="Start with: [bold]mmfed-client join KIT --cohort cohort.toml[/], then "
    "[bold]mmfed-client approve[/], then [bold]mmfed-client start[/]."
)
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """A site's side of a federation: join it, see and approve what would run, take part, keep the record."""
