"""The commands of ``mmfed-client``, wired together."""

from __future__ import annotations

from mmfed_client.cli.approve import approve
from mmfed_client.cli.check import check
from mmfed_client.cli.join import join
from mmfed_client.cli.ledger import app as ledger_app
from mmfed_client.cli.review import review
from mmfed_client.cli.revoke import revoke
from mmfed_client.cli.rotate import rotate
from mmfed_client.cli.start import start
from mmfed_client.cli.status import status
from mmfed_client.cli.withdraw import withdraw
from mmfed_common.command_line.program import make_app

app = make_app(
    "mmfed-client",
    "A site's side of a federation: join it, see and approve what would run, take part, keep the record.",
    "Start with: [bold]mmfed-client join KIT --cohort cohort.toml[/], then "
    "[bold]mmfed-client approve[/], then [bold]mmfed-client start[/].",
)
app.command()(join)
app.command()(check)
app.command()(review)
app.command()(approve)
app.command()(revoke)
app.command()(withdraw)
app.command()(start)
app.command()(status)
app.add_typer(ledger_app, name="ledger")
app.command()(rotate)
