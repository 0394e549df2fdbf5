"""``mmfed-server enrol``: join kits for sites, and what becomes of a site later."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from rich.table import Table

from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_server.cli.arguments import FederationFolder, federation_in

if TYPE_CHECKING:
    from mmfed_server.federation import Federation, SiteRecord, SiteRegistry


def enrol(
    sites: Annotated[list[str] | None, typer.Argument(metavar="SITE…", help="Names of sites.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="KIT", help="Where to write the kit of one site; default: DIR/kits/SITE.kit."),
    ] = None,
    days: Annotated[float, typer.Option(min=0.001, max=366, help="How long the kit's secret is good.")] = 14,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Exclude the sites, at once and for good.")
    ] = False,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Let the sites replace their keys: `mmfed-client rotate`.")
    ] = False,
    lift: Annotated[bool, typer.Option("--lift", help="Let the sites out of quarantine.")] = False,
    show: Annotated[bool, typer.Option("--list", help="Show every site, and change nothing.")] = False,
    folder: FederationFolder = None,
    as_json: AsJson = False,
) -> None:
    """Make a join kit for each site, or change what a site may do. A running server notices within a second.

    A kit holds no private key: the site makes its own. It holds a secret that works once, so send it as you
    would send a password. When a site has joined, compare its fingerprint (--list) with what the site reads
    to you by telephone.

    Examples:

        mmfed-server enrol north south east --dir fed
        mmfed-server enrol north --out /media/usb/north.kit --days 3
        mmfed-server enrol --list
        mmfed-server enrol north --revoke
    """
    from mmfed_server.database import open_database
    from mmfed_server.federation import SiteRegistry

    names = list(dict.fromkeys(sites or []))
    _refuse_contradictions(names, out, revoke=revoke, rotate=rotate, lift=lift, show=show)
    federation = federation_in(folder)
    registry = SiteRegistry(open_database(federation.database_url))
    if show:
        records = [record for record in registry.all() if not names or record.name in names]
        _show(records, as_json=as_json)
        return
    if revoke:
        done = [_revoke(registry, name) for name in names]
    elif rotate:
        done = [_rotate(registry, name) for name in names]
    elif lift:
        done = [_lift(registry, name) for name in names]
    else:
        done = [_invite(federation, registry, name, days, out) for name in names]
    if as_json:
        print_json({"sites": done})
        return
    console = stdout()
    for entry in done:
        console.print(entry["text"], markup=False, soft_wrap=True)


def _refuse_contradictions(
    names: list[str], out: Path | None, *, revoke: bool, rotate: bool, lift: bool, show: bool
) -> None:
    if revoke + rotate + lift + show > 1:
        raise click.UsageError("give only one of --revoke, --rotate, --lift, --list")
    if not names and not show:
        raise click.UsageError("name at least one site, or give --list")
    if out is not None and (len(names) != 1 or revoke or rotate or lift or show):
        raise click.UsageError("--out goes with one site that is invited")


def _invite(
    federation: Federation, registry: SiteRegistry, name: str, days: float, out: Path | None
) -> dict[str, Any]:
    from mmfed_common.names import time_text

    invitation = registry.invite(name, days)
    path = federation.write_kit(federation.kit(invitation), out)
    expires = time_text(invitation.expires)
    text = (
        f"{name}: kit in {path}, good until {expires}. There: mmfed-client join {path.name} --home DIR "
        "--cohort cohort.toml"
    )
    return {"site": name, "kit": str(path), "expires": expires, "text": text}


def _revoke(registry: SiteRegistry, name: str) -> dict[str, Any]:
    registry.revoke(name)
    return {"site": name, "state": "revoked", "text": f"{name}: excluded; its key is never accepted again."}


def _rotate(registry: SiteRegistry, name: str) -> dict[str, Any]:
    from mmfed_common.names import time_text

    until = time_text(registry.begin_rotation(name))
    text = f"{name}: may replace its key until {until}. There: mmfed-client rotate"
    return {"site": name, "rotation_until": until, "text": text}


def _lift(registry: SiteRegistry, name: str) -> dict[str, Any]:
    registry.lift(name)
    return {"site": name, "quarantine": None, "text": f"{name}: out of quarantine."}


def _show(records: list[SiteRecord], *, as_json: bool) -> None:
    if as_json:
        hidden = {"public_key", "generation"}
        rows = [{k: v for k, v in vars(record).items() if k not in hidden} for record in records]
        print_json({"sites": rows})
        return
    table = Table(title=f"{len(records)} sites", title_justify="left")
    for heading in ("site", "state", "last heard (UTC)", "ledger", "fingerprint of its key"):
        table.add_column(heading, overflow="fold")
    for record in records:
        state = f"quarantine, {record.quarantined_code}" if record.quarantined_code else record.state
        heard = record.last_seen.strftime("%Y-%m-%d %H:%M") if record.last_seen else ""
        table.add_row(record.name, state, heard, str(record.ledger_length or ""), record.fingerprint or "")
    stdout().print(table)
