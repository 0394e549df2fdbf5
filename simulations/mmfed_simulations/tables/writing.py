"""Making tables: rows that are asked for, one after the other, and the pages of what is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmfed_common.durable import write_durably
from mmfed_common.errors import StudyError
from mmfed_simulations.tables.ablations import Ablations
from mmfed_simulations.tables.comparisons import CALIBRATION, HOSPITAL
from mmfed_simulations.tables.field import Field
from mmfed_simulations.tables.missing import Missing
from mmfed_simulations.tables.partitions import Partitions
from mmfed_simulations.tables.rows import RowResult
from mmfed_simulations.tables.table import Table, Workshop
from mmfed_simulations.tables.tasks import Tasks

TABLES: tuple[Table, ...] = (Field(), Partitions(), Ablations(), Tasks(), Missing(), CALIBRATION, HOSPITAL)
"""Every table, in the order in which they are made."""

Progress = Callable[[int, int, str], None]
"""Called with rows done, rows in all, and the row that is next."""


@dataclass(frozen=True)
class Made:
    """What was made.

    Attributes
    ----------
    pages
        The pages that were written.
    seconds
        How long their rows took, when each was made; an interrupted row counts from its last beginning.
    unknown
        Of how many rows that is not known.
    """

    pages: tuple[Path, ...]
    seconds: float
    unknown: int


def wanted_rows(only: Sequence[str]) -> dict[Table, list[str]]:
    """Table → rows, of all or of those that are asked for.

    Parameters
    ----------
    only
        Beginnings of ``"TABLE/COHORT/ROW"``, word by word; nothing means everything.

    Raises
    ------
    StudyError
        ``MMF-511`` for a name that fits no row.
    """
    every = {table: [f"{table.name}/{row}" for row in table.rows] for table in TABLES}
    for name in only:
        if not any(_within(row, name) for rows in every.values() for row in rows):
            tables = ", ".join(table.name for table in TABLES)
            raise StudyError("MMF-511", f"no row is called {name!r}; tables are {tables}; see --list")
    found = {}
    for table, rows in every.items():
        chosen = [row for row in rows if not only or any(_within(row, name) for name in only)]
        if chosen:
            found[table] = [row.partition("/")[2] for row in chosen]
    return found


def make_tables(
    wanted: Mapping[Table, Sequence[str]], workshop: Workshop, docs: Path, progress: Progress
) -> Made:
    """Make rows and write their pages, each with a JSON file beside it.

    Rows that were asked for earlier stay on a page: what ``docs`` holds of a table is kept beside the new.

    Parameters
    ----------
    docs
        Folder of the pages.

    Raises
    ------
    MmfedError
        Whatever stops a row.
    """
    total, done, pages = sum(len(rows) for rows in wanted.values()), 0, []
    took: list[float | None] = []
    for table, rows in wanted.items():
        for row in rows:
            progress(done, total, f"{table.name}/{row}")
            took.append(table.make(workshop, row).seconds)
            done += 1
        pages.append(write_table(table, workshop, docs, rows))
    progress(total, total, "")
    return Made(tuple(pages), sum(seconds or 0.0 for seconds in took), took.count(None))


def write_table(table: Table, workshop: Workshop, docs: Path, rows: Sequence[str]) -> Path:
    """Write a table's page and its JSON file, of the rows just made and of those that are on it already."""
    record = docs / f"{table.name}.json"
    before = json.loads(record.read_text(encoding="utf-8"))["rows"] if record.is_file() else {}
    there = [row for row in table.rows if row in rows or row in before]
    found: dict[str, RowResult] = {row: table.make(workshop, row) for row in there}
    content: dict[str, Any] = {
        "table": table.name,
        "rows": {row: result.plain() for row, result in found.items()},
    }
    docs.mkdir(parents=True, exist_ok=True)
    write_durably(record, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    page = docs / f"{table.name}.md"
    text = table.page(found)
    if len(there) < len(table.rows):
        text += (
            f"\n{len(there)} of {len(table.rows)} rows have been made; "
            f"`mmfed-simulate results --only {table.name}` makes the others.\n"
        )
    write_durably(page, text.encode())
    return page


def _within(row: str, name: str) -> bool:
    """Whether a row's name begins with another, word by word."""
    return row == name or row.startswith(name.rstrip("/") + "/")
