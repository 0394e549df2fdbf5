"""``mmfed-server runs withdraw|readmit|contributions|replay``: sites that leave a study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_server.cli.arguments import FederationFolder, federation_in
from mmfed_server.cli.runs import RunName

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from mmfed_common.ledger import Entry
    from mmfed_server.withdrawal.contributions import Contribution

Site = Annotated[list[str], typer.Option("--site", metavar="SITE", help="Which site; may be repeated.")]
Reason = Annotated[str, typer.Option(help="Why, in a few words; it is kept with the withdrawal.")]


def withdraw(
    run: RunName, site: Site, reason: Reason = "", folder: FederationFolder = None, as_json: AsJson = False
) -> None:
    """Let a site leave the study of a run: nothing of it is taken any more, in this run or another of it.

    A running server notices before its next exchange, drops what the site has sent for the round that is
    under way, and tells the site. What the site contributed before is still in the run; `replay` trains it
    again without. Sites can say so themselves: `mmfed-client withdraw`.

    Examples:

        mmfed-server runs withdraw lung-20260501-101500-ab12cd34 --site north --reason "consent withdrawn"
    """
    from mmfed_server.federation import SiteRegistry
    from mmfed_server.withdrawal.register import Withdrawals

    with _engine(folder) as engine:
        study = _study_hash(engine, run)
        registry = SiteRegistry(engine)
        names = [registry.get(name).name for name in site]
        register = Withdrawals(engine)
        done = [
            {"site": name, "new": register.withdraw(study, name, "coordinator", reason)} for name in names
        ]
    if as_json:
        print_json({"study": study, "sites": done})
        return
    for entry in done:
        told = "has left" if entry["new"] else "had left already"
        stdout().print(f"{entry['site']} {told} study {study[:12]}.", markup=False)
    stdout().print("See what it contributed: mmfed-server runs contributions SITE", markup=False)


def readmit(
    run: RunName, site: Site, reason: Reason = "", folder: FederationFolder = None, as_json: AsJson = False
) -> None:
    """Let a site back into the study of a run, when it left by mistake. Both stay on record.

    Examples:

        mmfed-server runs readmit lung-20260501-101500-ab12cd34 --site north
    """
    from mmfed_server.withdrawal.register import Withdrawals

    with _engine(folder) as engine:
        study = _study_hash(engine, run)
        for name in site:
            Withdrawals(engine).readmit(study, name, reason)
    if as_json:
        print_json({"study": study, "sites": site})
    else:
        stdout().print(f"{', '.join(site)}: back in study {study[:12]}.", markup=False)


def contributions(
    site: Annotated[str, typer.Argument(metavar="SITE", help="The site.")],
    export: Annotated[
        Path | None,
        typer.Option(
            "--ledger", metavar="EXPORT", help="Compare with what `mmfed-client ledger export` wrote there."
        ),
    ] = None,
    folder: FederationFolder = None,
    as_json: AsJson = False,
) -> None:
    """List what a site contributed: every run that holds something of it, and the rounds.

    With --ledger also whether the site's own ledger has a receipt for each update that is counted here; exit
    code 5 when it has not (MMF-566).

    Examples:

        mmfed-server runs contributions north --dir fed
        mmfed-server runs contributions north --ledger north-ledger.jsonl
    """
    from mmfed_common.errors import StudyError
    from mmfed_server.federation import SiteRegistry
    from mmfed_server.withdrawal.contributions import contributions_of, missing_receipts

    federation = federation_in(folder)
    with _engine(folder) as engine:
        found = contributions_of(engine, SiteRegistry(engine).get(site).name, federation.spool / "export")
        missing = {} if export is None else missing_receipts(found, _entries(engine, site, export))
    if missing:
        named = "; ".join(
            f"study {study[:12]}: rounds {', '.join(map(str, rounds))}" for study, rounds in missing.items()
        )
        raise StudyError("MMF-566", f"no receipt of {named}", site)
    if as_json:
        print_json({"site": site, "runs": [vars(entry) for entry in found], "ledger": export is not None})
        return
    stdout().print(_table(site, found))
    if export is not None:
        stdout().print("Every update that is counted has its receipt in the site's ledger.", markup=False)


def replay(
    run: RunName,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="SITE", help="The site to do without; may be repeated."),
    ] = None,
    folder: FederationFolder = None,
    as_json: AsJson = False,
) -> None:
    """Train a run again without a site, from the last state that holds nothing of it.

    That is the state before the first round, or before the sums of features, in which anything of the site
    went in; if it was there from the start, the run begins anew. Sites that have withdrawn from the study are
    left out as well. The old run is kept and marked as replaced: exporting it warns. A running server begins
    by itself when its present round is over; otherwise start it.

    Examples:

        mmfed-server runs replay lung-20260501-101500-ab12cd34 --without north
    """
    from mmfed_server.coordinator.lock import is_served
    from mmfed_server.withdrawal.replay import prepare_replay

    federation = federation_in(folder)
    with _engine(folder) as engine:
        made = prepare_replay(engine, run, without or (), federation.spool / "replay")
    if as_json:
        print_json(vars(made))
        return
    console = stdout()
    console.print(f"{made.run} replaces {made.replaces}, without {', '.join(made.without)}.", markup=False)
    console.print(f"It is trained again from round {made.from_round}.", markup=False)
    served = is_served(federation.path)
    console.print("The server goes on with it." if served else "Next: mmfed-server start", markup=False)


@contextmanager
def _engine(folder: Path | None) -> Iterator[Engine]:
    from mmfed_server.database import open_database

    engine = open_database(federation_in(folder).database_url)
    try:
        yield engine
    finally:
        engine.dispose()


def _entries(engine: Engine, site: str, export: Path) -> tuple[Entry, ...]:
    from mmfed_common.ledger import exported_entries
    from mmfed_server.federation import SiteRegistry

    return exported_entries(export, SiteRegistry(engine).last_key(site))


def _study_hash(engine: Engine, run: str) -> str:
    from mmfed_server.record.catalogue import RunCatalogue

    return RunCatalogue(engine).run(run).study_hash


def _table(site: str, found: list[Contribution]) -> Table:
    table = Table(title=f"{site}: {len(found)} runs hold something of it", title_justify="left")
    for heading in ("run", "study", "state", "first round", "rounds", "patients", "bytes", "withdrew (UTC)"):
        table.add_column(heading, overflow="fold")
    for entry in found:
        state = f"replaced by {entry.superseded_by}" if entry.superseded_by else entry.status
        first = "sums of features" if entry.first_round == 0 else str(entry.first_round)
        since = entry.withdrawn[:16].replace("T", " ")
        counts = (_ranges(entry.rounds), str(entry.patients), f"{entry.bytes_up:,}")
        table.add_row(entry.run, entry.study_hash[:12], state, first, *counts, since)
    return table


def _ranges(numbers: tuple[int, ...]) -> str:
    """Write 1, 2, 3, 5 as ``1–3, 5``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in parts)
