"""The check's findings as a table for people, as a record for machines, and as a page for the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from rich.markup import escape
from rich.table import Table

from mmfed_client.preflight.finding import Finding, State, exit_code
from mmfed_common.errors import MachineError
from mmfed_common.names import time_text
from mmfed_common.software import software

STYLES = {State.OK: "green", State.WARNING: "yellow", State.FAULT: "bold red", State.NOT_APPLICABLE: "dim"}
SHOWN = {State.OK: "ok", State.WARNING: "warning", State.FAULT: "FAULT", State.NOT_APPLICABLE: "–"}


def as_table(findings: Sequence[Finding]) -> Table:
    """Lay findings out: item, state, what and where; below a fault, how to repair it."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column("item", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("what", ratio=1, overflow="fold")
    for found in findings:
        where = f" [dim]({escape(found.where)})[/]" if found.where else ""
        code = f"[bold]{found.code}[/] " if found.code else ""
        lines = f"{code}{escape(found.what)}{where}"
        if found.repair:
            lines += f"\n[cyan]repair:[/] {escape(found.repair)}"
        state = f"[{STYLES[found.state]}]{SHOWN[found.state]}[/]"
        table.add_row(escape(found.name), state, lines)
    return table


def verdict(findings: Sequence[Finding]) -> str:
    """Sum up in one sentence."""
    counted = Counter(found.state for found in findings)
    faults, warnings = counted[State.FAULT], counted[State.WARNING]
    if faults:
        return (
            f"{faults} fault(s) and {warnings} warning(s): the site cannot take part until they are repaired."
        )
    if warnings:
        return f"No fault, {warnings} warning(s): the site can take part."
    return "No fault and no warning: the site can take part."


def as_record(findings: Sequence[Finding], site: str, seconds: float, now: datetime) -> dict[str, Any]:
    """The whole check for machines."""
    return {
        "site": site,
        "time": time_text(now),
        "software": software(),
        "seconds": round(seconds, 2),
        "exit_code": exit_code(findings),
        "verdict": verdict(findings),
        "items": [found.as_record for found in findings],
    }


def write_page(record: dict[str, Any], path: Path) -> None:
    """Write the check as one HTML page without scripts or anything from elsewhere.

    Raises
    ------
    MachineError
        ``MMF-142`` when it cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("mmfed_client.preflight", "."), autoescape=select_autoescape(default=True)
    )
    page = environment.get_template("page.html.j2").render(check=record)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise MachineError("MMF-142", f"it was not written: {error.strerror}", str(path)) from None
