"""The commands of ``mmfed-server``, wired together."""

from __future__ import annotations

from mmfed_common.command_line.program import make_app
from mmfed_server.cli.enrol import enrol
from mmfed_server.cli.export import export
from mmfed_server.cli.init import init
from mmfed_server.cli.ledger import ledger
from mmfed_server.cli.runs import app as runs_app
from mmfed_server.cli.start import start
from mmfed_server.cli.status import status
from mmfed_server.cli.study import app as study_app
from mmfed_server.cli.withdrawal import contributions, readmit, replay, withdraw

app = make_app(
    "mmfed-server",
    "The coordinator's side of a federation: found it, enrol sites, serve, run studies, release models.",
    "Start with: [bold]mmfed-server init FOLDER --name N --address HOST:PORT[/], then "
    "[bold]mmfed-server enrol SITE …[/], then [bold]mmfed-server start --study study.toml[/].",
)
app.command()(init)
app.command()(enrol)
app.add_typer(study_app, name="study")
app.command()(start)
app.command()(status)
for command in (withdraw, readmit, contributions, replay):
    runs_app.command()(command)
app.add_typer(runs_app, name="runs")
app.command()(export)
app.command()(ledger)
