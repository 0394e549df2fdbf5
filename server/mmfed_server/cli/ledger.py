"""``mmfed-server ledger``: a site's exported ledger against what the site told of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_common.errors import NetworkError
from mmfed_server.cli.arguments import FederationFolder, federation_in

if TYPE_CHECKING:
    from mmfed_server.federation import LedgerComparison, LedgerHead


def ledger(
    site: Annotated[str, typer.Argument(metavar="SITE", help="The site whose ledger it is.")],
    export: Annotated[
        Path, typer.Argument(metavar="EXPORT", help="What `mmfed-client ledger export` wrote there.")
    ],
    folder: FederationFolder = None,
    as_json: AsJson = False,
) -> None:
    """Compare a site's exported ledger with every head of it that came with the site's answers.

    Exit code 0 when the export is whole, signed by the site, and holds each entry that was ever told; 4 when
    an entry is another one or missing (MMF-441), 3 when the export is not what the site signed.

    Examples:

        mmfed-server ledger north north-ledger.jsonl --dir fed
    """
    from mmfed_server.database import open_database
    from mmfed_server.federation import SiteRegistry, compare_ledger

    engine = open_database(federation_in(folder).database_url)
    try:
        found = compare_ledger(SiteRegistry(engine), site, export)
    finally:
        engine.dispose()
    if not found.agrees:
        raise NetworkError("MMF-441", _in_words(found), site)
    if as_json:
        print_json({"site": site, "entries": found.entries, "heads": found.heads, "agrees": True})
    else:
        text = (
            f"{site}: {found.entries} entries, whole and signed; all {found.heads} heads that were told fit."
        )
        stdout().print(text, markup=False)


def _in_words(found: LedgerComparison) -> str:
    parts = []
    if found.others:
        parts.append(f"entry {_told(found.others[0])} is another one in the export")
    if found.beyond:
        parts.append(f"the export ends at entry {found.entries}, before entry {_told(found.beyond[0])}")
    wrong = len(found.others) + len(found.beyond)
    return f"{wrong} of {found.heads} heads do not fit: {'; '.join(parts)}"


def _told(head: LedgerHead) -> str:
    return f"{head.length}, told at {head.noted_at:%Y-%m-%d %H:%M:%S} UTC,"
