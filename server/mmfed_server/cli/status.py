"""``mmfed-server status``: what is going on."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_common.command_line.watching import until_interrupted
from mmfed_server.cli.arguments import FederationFolder, federation_in

if TYPE_CHECKING:
    from mmfed_server.coordinator.view import FederationView
    from mmfed_server.federation import Federation

WATCH_SECONDS = 1.0
COLOURS = {"running": "green", "finished": "green", "waiting": "yellow", "failed": "red", "gone": "red"}


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew each second, until Ctrl-C.")] = False,
    rounds: Annotated[int, typer.Option(min=0, help="How many of the last rounds to show.")] = 5,
    folder: FederationFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show what is going on: the run, who is there, who is missing, who was refused and why, the last rounds.

    Works whether or not the server runs. With --watch --json it prints one line whenever something changed.

    Examples:

        mmfed-server status --dir fed
        mmfed-server status --watch
        mmfed-server status --json
    """
    federation = federation_in(folder)
    if watch:
        with suppress(KeyboardInterrupt):  # how a person stops looking
            _watch(federation, rounds, as_json=as_json)
        return
    from mmfed_server.coordinator.view import view_of

    view = view_of(federation, rounds)
    if as_json:
        print_json(view.to_json())
    else:
        stdout().print(rendered(view))


def _watch(federation: Federation, rounds: int, *, as_json: bool) -> None:
    from rich.live import Live

    from mmfed_server.coordinator.view import view_of

    if as_json:
        last = ""
        for _ in until_interrupted(WATCH_SECONDS):
            line = json.dumps(view_of(federation, rounds).to_json(), default=str)
            if line != last:
                print(line, flush=True)
            last = line
        return
    with Live(console=Console(), auto_refresh=False) as live:
        for _ in until_interrupted(WATCH_SECONDS):
            live.update(rendered(view_of(federation, rounds)), refresh=True)


def rendered(view: FederationView) -> RenderableType:
    """The view as a person reads it."""
    parts: list[RenderableType] = [_headline(view), _sites(view)]
    if view.last_rounds:
        parts.append(rounds_table(view.last_rounds))
    parts += [Text(f"warning: {warning}", style="yellow") for warning in view.warnings]
    return Group(*parts)


def _headline(view: FederationView) -> Text:
    text = Text(f"{view.federation} at {view.address}: ")
    text.append(view.state, style=f"bold {COLOURS.get(view.state, '')}".strip())
    if not view.served:
        text.append(" (no server runs)")
    if view.study:
        text.append(f"\nstudy {view.study['name']} {view.study['hash'][:12]} · run {view.run}")
        text.append(f" · round {view.round} of {view.rounds}")
    if view.code or view.reason:
        text.append(f"\n{view.code} {view.reason}".rstrip(), style="yellow")
    if view.next_step:
        text.append(f"\n  next: {view.next_step}")
    details = view.details
    if "needed" in details:
        text.append(f"\na round needs {details['needed']} sites")
    if "again_in_seconds" in details:
        text.append(f"\nit is tried again in {details['again_in_seconds']:g} s")
    for site, reason in details.get("refused", {}).items():
        text.append(f"\n{site}: {reason}")
    for waiting in view.waiting:
        text.append(f"\nthen: study {waiting['name']} {waiting['study'][:12]}")
    if view.missing:
        text.append(f"\nmissing: {', '.join(view.missing)}", style="yellow")
    return text


def _sites(view: FederationView) -> Table:
    table = Table(title=f"{len(view.sites)} sites", title_justify="left")
    for heading in ("site", "state", "there", "patients", "rounds", "sent", "received", "refused", "remarks"):
        right = heading in ("patients", "rounds", "sent", "received", "refused")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for site in view.sites:
        state = "quarantine" if site["quarantined"] else site["state"]
        state = "withdrawn" if site["withdrawn"] else state
        table.add_row(
            site["site"],
            state,
            "yes" if site["online"] else "",
            str(site["patients"] or ""),
            str(site["rounds"] or ""),
            _bytes(site["bytes_up"]),
            _bytes(site["bytes_down"]),
            str(site["refusals"] or ""),
            Text(_remark(site)),
        )
    return table


def _remark(site: dict[str, Any]) -> str:
    remarks = []
    if site["quarantined"]:
        remarks.append(f"{site['quarantined']}; out with: mmfed-server enrol {site['site']} --lift")
    if site["below_floor"]:
        remarks.append("too few patients for the study")
    if site["last_refusal"]:
        remarks.append(f"last refusal: {site['last_refusal']}")
    remarks += [f"software: {difference}" for difference in site["software"]]
    return "; ".join(remarks)


def rounds_table(entries: list[dict[str, Any]], title: str = "last rounds") -> Table:
    """Rounds, one a line."""
    table = Table(title=title, title_justify="left")
    losses = sorted({key for entry in entries for key in entry if key.endswith("_loss")})
    for heading in ("round", "stage", "seconds", "sites", *losses):
        table.add_column(heading.replace("_", " "), justify="left" if heading == "stage" else "right")
    table.add_column("refused", overflow="fold")
    for entry in entries:
        values = [f"{entry[key]:.4f}" if key in entry else "" for key in losses]
        refused = "; ".join(f"{site}: {reason}" for site, reason in entry.get("refused", {}).items())
        sites = entry.get("sites", "")
        count = str(len(sites)) if isinstance(sites, list) else str(sites)
        table.add_row(
            str(entry["round"]), entry["stage"], f"{entry['seconds']:.2f}", count, *values, Text(refused)
        )
    return table


def _bytes(count: int) -> str:
    if not count:
        return ""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
