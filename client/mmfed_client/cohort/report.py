"""Faults as a table for people and as records for machines. Both may hold data values: they stay local."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from mmfed_common.errors import Fault


def format_faults(faults: Sequence[Fault]) -> Table:
    """Lay faults out as a table: code, where, what, what to do. Rows are counted from 0."""
    table = Table(title=f"{len(faults)} finding(s) in the cohort", show_lines=True)
    table.add_column("code", no_wrap=True)
    for heading in ("table", "row", "column", "count"):
        table.add_column(heading)
    for heading in ("what", "what to do"):
        table.add_column(heading, ratio=1)
    for fault in faults:
        code = f"{fault.code}\n{fault.severity}"
        row = "" if fault.row is None else str(fault.row)
        cells = (code, fault.table, row, fault.column, str(fault.count), fault.what, fault.next_step)
        style = "red" if fault.severity == "error" else "yellow"
        table.add_row(*(_plain(cell) for cell in cells), style=style)
    return table


def _plain(text: str) -> str:
    """Keep rich from reading column names in brackets as markup."""
    return text.replace("[", r"\[")


def faults_as_json(faults: Sequence[Fault]) -> list[dict[str, Any]]:
    """Give faults as records for ``--json``."""
    return [
        {
            "code": fault.code,
            "severity": fault.severity,
            "table": fault.table,
            "row": fault.row,
            "column": fault.column,
            "count": fault.count,
            "what": fault.what,
            "next_step": fault.next_step,
        }
        for fault in faults
    ]
