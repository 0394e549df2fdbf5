"""``mmfed-client status``: what this site is doing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmfed_client.cli.arguments import DEFAULT_HOME, Home, home_at
from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_common.command_line.watching import until_interrupted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mmfed_client.home import SiteHome
    from mmfed_client.status import Status

WATCH_SECONDS = 0.5


def status(
    home: Home = DEFAULT_HOME,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what this site is doing, what it waits for, and what left it last.

    With --json and --watch one JSON object a line, whenever something changes.

    Examples:

        mmfed-client status
        mmfed-client status --watch
        mmfed-client status --json
    """
    place = home_at(home)
    if not watch:
        now = status_now(place)
        if as_json:
            print_json(_with_ledger(place, now))
        else:
            stdout().print(_table(place, now))
        return
    with suppress(KeyboardInterrupt):  # how a person stops looking
        if as_json:
            _print_changes(place)
        else:
            _show_live(place)


def status_now(home: SiteHome) -> Status:
    """The status, corrected for a program that was killed and could not write it down."""
    from mmfed_client.status import State, Status, StatusFile
    from mmfed_client.supervisor.lock import is_held

    config = home.config
    found = StatusFile(home.status_file).read()
    running = is_held(home.lock_file)
    if found is None:
        state = State.starting if running else State.stopped
        return Status(config.site, config.federation, state)
    if not running and found.state is not State.stopped:
        cause = f"it was: {found.state.value}"
        return replace(found.entered(State.died, "MMF-115", cause), pid=0, node_pid=0, since=found.updated)
    return found


def headline(status: Status) -> str:
    """One line that says it all."""
    parts = [status.state.value]
    if status.study:
        parts.append(f"study {status.study} {status.study_hash[:12]}")
    if status.round:
        parts.append(f"round {status.round} of {status.rounds}")
    if status.doing:
        parts.append(status.doing)
    if status.code:
        parts.append(f"{status.code} {status.cause}")
    return _plain(" · ".join(parts))


def _plain(text: str) -> str:
    """A text as a terminal may show it; a cause may quote what came from outside."""
    return "".join(c if c.isprintable() else " " for c in text)


def _with_ledger(home: SiteHome, status: Status) -> dict[str, Any]:
    from mmfed_client.ledger import Ledger
    from mmfed_common.errors import MmfedError

    try:
        head = Ledger(home.ledger_file).head
        ledger: dict[str, Any] = {"length": head.length, "head": head.hash}
    except MmfedError as error:
        ledger = {"code": error.code, "what": error.what}
    return {**status.as_dict(), "state": status.state.name, "ledger": ledger, "privacy": _privacy(home)}


def _privacy(home: SiteHome) -> dict[str, Any]:
    """What was spent of patients' privacy, with the sentences that say it; empty before the first time."""
    from mmfed_client.budget import spending_of
    from mmfed_client.ledger import Ledger
    from mmfed_client.policy import Policy
    from mmfed_common.errors import MmfedError

    try:
        policy = Policy.load(home.policy_file)
    except MmfedError:
        policy = None
    try:
        spending = spending_of(Ledger(home.ledger_file), policy)
    except MmfedError as error:
        return {"code": error.code, "what": error.what}
    words = list(spending.sentences())
    return {**spending.as_dict(), "words": words} if words else {}


def _table(home: SiteHome, status: Status) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    found = _with_ledger(home, status)
    ledger, privacy = found["ledger"], found["privacy"]
    rows = {
        "site": f"{status.site} in {status.federation}",
        "doing": headline(status),
        "since": _since(status.since),
        "next": status.next_step,
        "sent": _sent(status),
        "privacy": "\n".join(privacy.get("words", [])),
        "node": f"process {status.node_pid}, restarted {status.restarts} times" if status.node_pid else "",
        "ledger": f"{ledger['length']} entries, head {ledger['head'][:16]}"
        if "head" in ledger
        else f"{ledger['code']} {ledger['what']}",
    }
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, text in rows.items():
        if text:
            lines = "\n".join(map(_plain, text.split("\n")))
            table.add_row(Text(name, style="bold"), Text(lines))
    return table


def _sent(status: Status) -> str:
    sent = status.sent
    if not sent.messages:
        return "nothing since the program began"
    return f"{sent.messages} answers, {sent.bytes:,} bytes; last: {sent.kind} at {_since(sent.time)}"


def _since(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def _print_changes(home: SiteHome) -> None:
    import json

    last: dict[str, Any] = {}
    for _ in until_interrupted(WATCH_SECONDS):
        now = _with_ledger(home, status_now(home))
        if now != last:
            typer.echo(json.dumps(now, default=str))
            last = now


def _show_live(home: SiteHome) -> None:
    from rich.live import Live

    with Live(console=stdout(), auto_refresh=False) as live:
        for _ in until_interrupted(WATCH_SECONDS):
            live.update(_table(home, status_now(home)), refresh=True)
