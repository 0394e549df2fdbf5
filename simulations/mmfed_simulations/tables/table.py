"""What a table of ``docs/results`` is: rows that can each be made alone, and a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mmfed_simulations.tables.cohorts import Places
from mmfed_simulations.tables.rows import RowCache, RowResult

Tell = Callable[[str], None]
"""Told what is being done."""


@dataclass(frozen=True)
class Workshop:
    """What making a row needs.

    Attributes
    ----------
    places
        Studies, data, and where trainings are kept.
    workers
        Processes, of one thread each.
    tell
        Told what is being done.
    """

    places: Places
    workers: int
    tell: Tell

    @property
    def cache(self) -> RowCache:
        """Finished rows."""
        return RowCache(self.places.work / "rows")


class Table(Protocol):
    """One page of ``docs/results``."""

    @property
    def name(self) -> str:
        """Name of the page and first word of every row's name."""

    @property
    def rows(self) -> Sequence[str]:
        """Names of the rows: ``"COHORT/ROW"``."""

    def make(self, workshop: Workshop, row: str) -> RowResult:
        """Make one row, or read it where it was made before.

        Raises
        ------
        MmfedError
            Whatever stops it.
        """

    def page(self, found: Mapping[str, RowResult]) -> str:
        """The page in Markdown, of the rows that are there."""
