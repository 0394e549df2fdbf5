"""The commands of ``mmfed-server``, wired together."""

from __future__ import annotations

from typing import Annotated

import typer

from mmfed_server.cli.enrol import enrol
from mmfed_server.cli.export import export
from mmfed_server.cli.init import init
from mmfed_server.cli.ledger import ledger
from mmfed_server.cli.runs import app as runs_app
from mmfed_server.cli.start import start
from mmfed_server.cli.status import status
from mmfed_server.cli.study import app as study_app

app = typer.Typer(
    name="mmfed-server",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(
    epilog="Start with: [bold]mmfed-server init FOLDER --name N --address HOST:PORT[/], then "
    "[bold]mmfed-server enrol SITE …[/], then [bold]mmfed-server start --study study.toml[/]."
)
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """The coordinator's side of a federation: found it, enrol sites, serve, run studies, release models."""


app.command()(init)
app.command()(enrol)
app.add_typer(study_app, name="study")
app.command()(start)
app.command()(status)
app.add_typer(runs_app, name="runs")
app.command()(export)
app.command()(ledger)
