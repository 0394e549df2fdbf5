"""``mmfed-client ledger``: what was decided here, what left, and whether the record is untouched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmfed_client.cli.arguments import DEFAULT_HOME, Home, home_at, key_passphrase
from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_common.messages import TRAIN

if TYPE_CHECKING:
    from mmfed_client.ledger import Entry, Head
    from mmfed_common.errors import Fault

app = typer.Typer(no_args_is_help=True, help="What was decided here, what left this site, and when.")

AGO = re.compile(r"(\d{1,6})([mhdw])")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str) -> datetime:
    """A time as people write it: ``2026-11-21``, ``2026-11-21T08:00``, or how long ago: ``90m 24h 7d 2w``.

    Without a zone it is this machine's local time.

    Raises
    ------
    typer.BadParameter
        When it is neither.
    """
    ago = AGO.fullmatch(text)
    try:
        if ago:
            return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no time: write e.g. 2026-11-21, or 24h, 7d") from None


@app.command()
def show(
    home: Home = DEFAULT_HOME,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=moment, metavar="WHEN", help="Only since: 2026-11-21, 2026-11-21T08:00, 24h, 7d."
        ),
    ] = None,
    kind: Annotated[str, typer.Option(help="Only one kind, e.g. receipt, approval, refusal.")] = "",
    study: Annotated[
        str, typer.Option(metavar="HASH", help="Only of one study, and what was sent for it in total.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show the entries: approvals, withdrawals, refusals, and a receipt of everything that left.

    Examples:

        mmfed-client ledger show --since 7d
        mmfed-client ledger show --kind receipt --json
        mmfed-client ledger show --study 3f9a01
    """
    from rich.table import Table
    from rich.text import Text

    from mmfed_client.ledger import Ledger

    entries = Ledger(home_at(home).ledger_file).entries(since, kind or None)
    entries = (entry for entry in entries if str(entry.body.get("study", "")).startswith(study))
    if as_json:
        print_json([entry.fields() for entry in entries])
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("no.", "time (UTC)", "kind", "what"):
        table.add_column(column)
    shown = list(entries)
    for entry in shown:
        time = f"{entry.time:%Y-%m-%d %H:%M:%S}"
        table.add_row(str(entry.number), time, entry.kind, Text(in_words(entry.kind, dict(entry.body))))
    stdout().print(table)
    if study:
        stdout().print(sent_in_words(shown), markup=False, soft_wrap=True)


@app.command()
def verify(
    export: Annotated[
        Path | None,
        typer.Argument(
            metavar="[EXPORT]", help="An exported ledger of this site. Default: the ledger itself."
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Check every link of the chain. Exit code 0 if the record is whole, 3 if not.

    Examples:

        mmfed-client ledger verify
        mmfed-client ledger verify ledger-2026.jsonl
    """
    from mmfed_client.ledger import Ledger, verify_export

    place = home_at(home)
    head: Head | None
    faults: list[Fault] = []
    if export is not None:
        head = verify_export(export, place.key(key_passphrase(place)).public)
    else:
        ledger = Ledger(place.ledger_file)
        faults = ledger.verify()
        broken = any(fault.severity == "error" for fault in faults)
        head = None if broken else ledger.head
    listed = [
        {"code": f.code, "line": (f.row or 0) + 1, "what": f.what, "severity": f.severity} for f in faults
    ]
    if as_json:
        found = None if head is None else {"length": head.length, "head": head.hash}
        print_json({"whole": head is not None, "ledger": found, "faults": listed})
    else:
        for fault in listed:
            typer.echo(f"line {fault['line']}: {fault['what']}")
        typer.echo(
            "The ledger is not whole." if head is None else f"{head.length} entries, all whole: {head.hash}"
        )
    if head is None:
        raise typer.Exit(3)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Write a copy that others can check: the entries, and their number and head signed by the site's key.

    Examples:

        mmfed-client ledger export ledger-2026.jsonl
    """
    from mmfed_client.ledger import Ledger

    place = home_at(home)
    head = Ledger(place.ledger_file).export(out, place.key(key_passphrase(place)))
    if as_json:
        print_json({"export": str(out), "length": head.length, "head": head.hash})
    else:
        typer.echo(f"{out}: {head.length} entries, head {head.hash}")


def sent_in_words(entries: Iterable[Entry]) -> str:
    """What left, by receipts with content: how many answers of each kind, of which rounds, how many bytes."""
    receipts = [entry.body for entry in entries if entry.kind == "receipt" and "error" not in entry.body]
    if not receipts:
        return "Nothing was sent."
    counted = Counter(str(body.get("kind")) for body in receipts)
    rounds = sorted({body["round"] for body in receipts if body.get("kind") == TRAIN})
    spans = f", of rounds {rounds[0]} to {rounds[-1]}" if rounds else ""
    kinds = ", ".join(f"{count} × {kind}" for kind, count in sorted(counted.items()))
    total = sum(int(body.get("bytes", 0)) for body in receipts)
    return f"Sent: {kinds}{spans}; {total:,} bytes."


def in_words(kind: str, body: dict[str, Any]) -> str:
    """An entry's content in one line."""
    from mmfed_client.budget import entry_in_words

    study = str(body.get("study", ""))[:12]
    private = entry_in_words(kind, body)
    if private is not None:
        return private
    if kind == "receipt":
        what = f"{body.get('kind')} round {body.get('round')}: {body.get('bytes'):,} bytes to study {study}"
        return f"{what} · {body['error']}" if "error" in body else what
    if kind == "approval":
        more = "" if body.get("complete") else " (another person is needed)"
        return f"{body.get('person')} approved {body.get('name')} {study}{more}"
    if kind == "revocation":
        return f"{body.get('person')} withdrew approval of {'every study' if study == '*' else study}"
    if kind == "withdrawal":
        return f"{body.get('person')} left study {study}, and the coordinator was told"
    if kind == "refusal":
        return f"{body.get('code')} {body.get('meaning')} {study}"
    return ", ".join(f"{name} {value}" for name, value in body.items())
