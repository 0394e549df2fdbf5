"""What the check finds: one line for each item, with its state, its place and how to repair it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from mmfed_common.error_codes import CODES
from mmfed_common.errors import MmfedError

NO_HOME = "there is no home"


class State(StrEnum):
    """How an item stands."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Finding:
    """One line of the check.

    Attributes
    ----------
    name
        The item, as ``docs/check.md`` lists it; filled in by the runner.
    state
        How it stands.
    what
        What was seen, in one sentence; may hold local detail, so it stays on this machine.
    where
        File, address, variable or column.
    repair
        What to do; empty unless there is something to do.
    code
        The error code; empty unless there is something to do.
    seconds
        How long the item took; filled in by the runner.
    """

    state: State
    what: str
    where: str = ""
    repair: str = ""
    code: str = ""
    name: str = ""
    seconds: float = 0.0

    def of(self, name: str, seconds: float) -> Finding:
        """Say which item found it and how long that took."""
        return replace(self, name=self.name or name, seconds=round(seconds, 3))

    @property
    def as_record(self) -> dict[str, Any]:
        """The finding for machines."""
        return {
            "name": self.name,
            "state": self.state.value,
            "code": self.code,
            "what": self.what,
            "where": self.where,
            "repair": self.repair,
            "seconds": self.seconds,
        }

    @staticmethod
    def from_record(record: dict[str, Any]) -> Finding:
        """Read what :attr:`as_record` gave."""
        return Finding(**{**record, "state": State(record["state"])})


def ok(what: str, where: str = "") -> Finding:
    """Nothing need be done."""
    return Finding(State.OK, what, where)


def not_applicable(why: str, where: str = "") -> Finding:
    """The item has nothing to look at here; says why."""
    return Finding(State.NOT_APPLICABLE, why, where)


def warning(code: str, what: str, where: str = "", repair: str = "") -> Finding:
    """A person should look at it; the site can take part."""
    return Finding(State.WARNING, what, where, repair or CODES[code].next_step, code)


def fault(code: str, what: str, where: str = "", repair: str = "") -> Finding:
    """The site cannot take part, or not safely, until it is repaired."""
    return Finding(State.FAULT, what, where, repair or CODES[code].next_step, code)


def from_error(error: MmfedError) -> Finding:
    """A fault that another part of mmfed has found."""
    return fault(error.code, error.what, error.where)


def exit_code(findings: Sequence[Finding]) -> int:
    """Give 0, or the family of the first fault's code: 2 for ``MMF-2xx`` …"""
    return next((int(f.code[4]) for f in findings if f.state is State.FAULT), 0)
