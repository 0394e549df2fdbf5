"""The items of the site's record and of what runs on it: the ledger, another node."""

from __future__ import annotations

from collections.abc import Iterator

from mmfed_client.ledger import Ledger
from mmfed_client.preflight.finding import Finding, fault, not_applicable, ok, warning
from mmfed_client.preflight.subject import Subject
from mmfed_client.supervisor.lock import is_held

MOST_SHOWN = 5


def ledger(subject: Subject) -> Iterator[Finding]:
    """Whether every entry hangs on the one before."""
    path = subject.home.ledger_file
    if not path.is_file():
        yield not_applicable("nothing has been recorded yet", str(path))
        return
    record = Ledger(path)
    faults = record.verify()
    for found in faults[:MOST_SHOWN]:
        row = "" if found.row is None else f" line {found.row + 1}"
        if found.severity == "error":
            yield fault(found.code, found.what, f"{path}{row}")
        else:
            repair = "Nothing need be done: the next entry cuts it off and says so."
            yield warning(found.code, found.what, f"{path}{row}", repair)
    if len(faults) > MOST_SHOWN:
        yield fault(faults[0].code, f"and {len(faults) - MOST_SHOWN} more", str(path))
    if not faults:
        head = record.head
        yield ok(f"{head.length} entries, unbroken; head {head.hash[:16]}…", str(path))


def other_node(subject: Subject) -> Iterator[Finding]:
    """Whether a node of this home runs."""
    path = subject.home.lock_file
    if not is_held(path):
        yield ok("no node of this home runs")
        return
    process = path.read_text(encoding="ascii", errors="replace").strip() or "unknown"
    repair = "Nothing need be done if that is meant; a second one cannot start. See `mmfed-client status`."
    yield warning("MMF-110", f"a node of this home is running: process {process}", str(path), repair)
