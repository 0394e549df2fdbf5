"""Errors with a stable code: what is wrong, where, and the next step.

Every code stands once in :data:`CODES` with its one-line meaning and its remedy; ``docs/errors.md`` is
generated from that table and a test proves that no code lacks its text.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmfed_common.error_codes import CODES


class MmfedError(Exception):
    """A failure that a person can act upon.

    Parameters
    ----------
    code
        A key of :data:`mmfed_common.error_codes.CODES`, e.g. ``"MMF-201"``.
    what
        What is wrong, in one sentence. May hold local detail (file, row, column, patient id); such text
        stays on this machine, see :attr:`public`.
    where
        File, row and column, or the key of a document; empty when the sentence says it already.
    """

    def __init__(self, code: str, what: str, where: str = "") -> None:
        if code not in CODES:
            raise KeyError(f"{code} is not a registered error code")
        self.code = code
        self.what = what
        self.where = where
        super().__init__(what)

    @property
    def next_step(self) -> str:
        """What to do about it."""
        return CODES[self.code].next_step

    @property
    def public(self) -> str:
        """The only text about this error that may leave the machine: the code and its fixed meaning."""
        return f"{self.code} {CODES[self.code].meaning}"

    @property
    def exit_code(self) -> int:
        """Process exit status: the code's family, e.g. 2 for ``MMF-2xx``."""
        return int(self.code[4])

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        return f"{self.code}: {self.what}{where}\n  next: {self.next_step}"

    def __reduce__(self) -> tuple[type[MmfedError], tuple[str, str, str]]:
        return (type(self), (self.code, self.what, self.where))


class MachineError(MmfedError):
    """``MMF-1xx``: this machine: disk, clock, memory, device, installation."""


class DataError(MmfedError):
    """``MMF-2xx``: a site's own tables or their description."""


class PrivacyError(MmfedError):
    """``MMF-3xx``: something that would break a privacy guarantee, or that a site's policy refuses."""


class NetworkError(MmfedError):
    """``MMF-4xx``: transport, trust, replies of other parties."""


class StudyError(MmfedError):
    """``MMF-5xx``: the study document, the run, its rounds."""


class ModelError(MmfedError):
    """``MMF-6xx``: knowledge packs, graphs, the model, bundles."""


@dataclass(frozen=True)
class Fault:
    """One fault found while checking, so that all of them can be shown at once.

    Attributes
    ----------
    code
        A registered ``MMF-`` code.
    what
        What is wrong, with the offending value.
    table, row, column
        Where: the table's name, its first offending row (0-based data row), the column.
    count
        How many rows have it.
    severity
        ``"error"`` stops the study; ``"warning"`` is reported and the study goes on.
    """

    code: str
    what: str
    table: str = ""
    row: int | None = None
    column: str = ""
    count: int = 1
    severity: str = "error"

    @property
    def next_step(self) -> str:
        """What to do about it."""
        return CODES[self.code].next_step


class CohortError(DataError):
    """Every fault of a cohort, raised once after all were collected."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        errors = [fault for fault in faults if fault.severity == "error"]
        lines = [f"{f.code} {f.table or '-'} {f.column}: {f.what}" for f in errors]
        super().__init__("MMF-200", f"{len(errors)} fault(s) in the cohort\n  " + "\n  ".join(lines))

    def __reduce__(self) -> tuple[type[CohortError], tuple[list[Fault]]]:  # type: ignore[override]
        return (type(self), (self.faults,))
