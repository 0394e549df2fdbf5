"""One line of a ledger: its form, its hash, and how it hangs on the line before."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mmfed_common.names import SHA256, TIME, parse_time, time_text

FIELDS = {"body", "hash", "kind", "number", "previous", "time"}
KIND = re.compile(r"[a-z][a-z-]{0,39}")


@dataclass(frozen=True)
class Head:
    """Where a ledger ends: how many entries it has, and the hash of the last; zeros when it has none."""

    length: int
    hash: str


EMPTY = Head(0, "0" * 64)


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes
    ----------
    number
        Counted from 1.
    time
        When it was written, UTC, by the site's clock.
    kind
        What it records, e.g. ``"approval"`` or ``"receipt"``.
    body
        What belongs to the kind: JSON values.
    previous
        The hash of the entry before; 64 zeros for the first.
    hash
        SHA-256 of the canonical JSON of all the other fields.
    """

    number: int
    time: datetime
    kind: str
    body: Mapping[str, Any]
    previous: str
    hash: str

    @staticmethod
    def after(head: Head, time: datetime, kind: str, body: Mapping[str, Any]) -> Entry:
        """Make the entry that follows a head.

        Raises
        ------
        ValueError
            When the kind or the body cannot be written in one form only.
        """
        if not KIND.fullmatch(kind):
            raise ValueError(f"{kind!r} cannot be the kind of an entry")
        rest = {
            "number": head.length + 1,
            "time": time_text(time),
            "kind": kind,
            "body": json.loads(canonical(dict(body))),
            "previous": head.hash,
        }
        if rest["body"] != body:
            raise ValueError("the body of an entry does not survive being written and read")
        return Entry.from_fields({**rest, "hash": digest(rest)})

    @staticmethod
    def from_fields(fields: Mapping[str, Any]) -> Entry:
        """Take the fields of a line; their form must have been checked."""
        return Entry(
            fields["number"],
            parse_time(fields["time"]),
            fields["kind"],
            fields["body"],
            fields["previous"],
            fields["hash"],
        )

    @property
    def head(self) -> Head:
        """The head of a ledger that ends here."""
        return Head(self.number, self.hash)

    def fields(self) -> dict[str, Any]:
        """The fields as they stand in the line."""
        return {
            "number": self.number,
            "time": time_text(self.time),
            "kind": self.kind,
            "body": self.body,
            "previous": self.previous,
            "hash": self.hash,
        }

    def line(self) -> bytes:
        """The line, with its end."""
        return canonical(self.fields()) + b"\n"


class BrokenLineError(ValueError):
    """A line is not what must stand there; the text says how, and holds nothing of the line."""


def canonical(content: object) -> bytes:
    """Write JSON in one form only: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def digest(rest: Mapping[str, Any]) -> str:
    """The hash of an entry from its other fields."""
    return hashlib.sha256(canonical(rest)).hexdigest()


def read_line(line: bytes, head: Head) -> Entry:
    """Read the line that follows a head.

    Parameters
    ----------
    line
        Without its end.

    Raises
    ------
    BrokenLineError
        When it is not an entry in its one form, its hash is wrong, or it does not follow ``head``.
    """
    entry = parse_line(line)
    if entry.number != head.length + 1:
        raise BrokenLineError(f"it has number {entry.number}, {head.length + 1} was to follow")
    if entry.previous != head.hash:
        raise BrokenLineError("it does not hang on the entry before it")
    return entry


def parse_line(line: bytes) -> Entry:
    """Read a line by itself, whatever stands before it; raises as :func:`read_line`."""
    try:
        fields = json.loads(line)
        exact = isinstance(fields, dict) and canonical(fields) == line
    except (ValueError, RecursionError):
        raise BrokenLineError("it is not JSON") from None
    if not exact or set(fields) != FIELDS:
        raise BrokenLineError("it is not an entry in its canonical form")
    if not _well_formed(fields):
        raise BrokenLineError("one of its fields is not of its form")
    if digest({key: value for key, value in fields.items() if key != "hash"}) != fields["hash"]:
        raise BrokenLineError("its hash is not that of its content")
    try:
        return Entry.from_fields(fields)
    except ValueError:
        raise BrokenLineError("its time is not a time") from None


def _well_formed(fields: Mapping[str, Any]) -> bool:
    return (
        type(fields["number"]) is int
        and isinstance(fields["body"], dict)
        and _matches(KIND.pattern, fields["kind"])
        and _matches(TIME[1:-1], fields["time"])
        and _matches(SHA256[1:-1], fields["previous"])
        and _matches(SHA256[1:-1], fields["hash"])
    )


def _matches(pattern: str, value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None
