"""Say in plain words what a study would do here, and key by key how it differs from another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mmfed_client.policy import Policy, Violation
from mmfed_client.review.sentences import Statement, statements
from mmfed_common.signed_study import SignedStudy
from mmfed_common.software import software_differences
from mmfed_common.study import Study

LONGEST_VALUE = 200


@dataclass(frozen=True)
class Change:
    """One key that differs from the study that was approved last.

    Attributes
    ----------
    key
        With dots, e.g. ``training.local_epochs``.
    before, after
        The values as JSON gives them; None where a study does not have the key.
    """

    key: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Review:
    """What a person reads before approving.

    Attributes
    ----------
    study
        What would run.
    statements
        What it would do here, in plain words, in the order in which they matter.
    changes
        Differences from the study that was approved last; None when none was.
    violations
        Why the site's policy refuses it; empty when it does not.
    warnings
        Differences of software and the like; they stop nothing.
    signed
        The signed document, where there is one.
    """

    study: Study
    statements: tuple[Statement, ...]
    changes: tuple[Change, ...] | None
    violations: tuple[Violation, ...]
    warnings: tuple[str, ...] = ()
    signed: SignedStudy | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything, for a program."""
        signed = self.signed
        return {
            "study": {
                "name": self.study.study.name,
                "version": self.study.study.version,
                "hash": self.study.hash,
            },
            "signed": None
            if signed is None
            else {
                "federation": signed.federation,
                "coordinator": signed.coordinator_fingerprint,
                "issued": signed.issued,
                "expires": signed.expires,
                "software": signed.software,
            },
            "statements": [{"about": s.about, "text": s.text} for s in self.statements],
            "changes": None
            if self.changes is None
            else [{"key": c.key, "before": c.before, "after": c.after} for c in self.changes],
            "violations": [{"code": v.code, "what": v.what, "remedy": v.remedy} for v in self.violations],
            "warnings": list(self.warnings),
            "allowed": not self.violations,
        }

    def renderable(self) -> RenderableType:
        """Everything, for a terminal. No text of the study is taken for markup or reaches it unescaped."""
        head = Text(
            f"{plain(self.study.study.name)}  version {plain(self.study.study.version)}", style="bold"
        )
        parts: list[RenderableType] = [head, Text(f"hash {self.study.hash}")]
        if self.signed is not None:
            parts.append(Text(f"signed by {plain(self.signed.coordinator_fingerprint)}"))
            parts.append(Text(f"signed {plain(self.signed.issued)}, expires {plain(self.signed.expires)}"))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for statement in self.statements:
            table.add_row(Text(statement.about, style="bold"), Text(plain(statement.text)))
        parts += [Text(""), table, *self._difference()]
        for warning in self.warnings:
            parts.append(Text(f"note: {plain(warning)}", style="yellow"))
        for violation in self.violations:
            parts.append(Text(f"{violation.code} {plain(violation.what)}", style="bold red"))
            parts.append(Text(f"  next: {violation.remedy}"))
        if not self.violations:
            parts.append(Text("This site's policy allows it.", style="green"))
        return Group(*parts)

    def _difference(self) -> Iterator[RenderableType]:
        yield Text("")
        if self.changes is None:
            yield Text("No study was approved at this site before.", style="bold")
            return
        if not self.changes:
            yield Text("Nothing differs from the study that was approved last.", style="bold")
            return
        yield Text("Different from the study that was approved last:", style="bold")
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("key", "before", "now"):
            table.add_column(column)
        for change in self.changes:
            table.add_row(Text(plain(change.key)), Text(_value(change.before)), Text(_value(change.after)))
        yield table


def describe(
    study: Study,
    previous: Study | None = None,
    violations: Sequence[Violation] = (),
    signed: SignedStudy | None = None,
    policy: Policy | None = None,
    more: Sequence[Statement] = (),
) -> Review:
    """Review a study.

    Parameters
    ----------
    previous
        The study that was approved last, if one was and it can still be read.
    violations
        What the site's policy has against it.
    signed
        The signed document: who signed it, until when, with which software.
    policy
        The site's policy, whose limits then stand beside the study's.
    more
        Points that the study alone does not tell.
    """
    warnings = () if signed is None else tuple(software_differences(signed.software))
    changes = None if previous is None else tuple(differences(previous, study))
    points = (*statements(study, policy), *more)
    return Review(study, points, changes, tuple(violations), warnings, signed)


def differences(previous: Study, study: Study) -> Iterator[Change]:
    """Compare two studies key by key, sorted by key; every default is written out in both."""
    before = dict(_flat(previous.model_dump(mode="json")))
    after = dict(_flat(study.model_dump(mode="json")))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield Change(key, before.get(key), after.get(key))


def plain(text: str) -> str:
    """A text as a terminal may show it: what does not print is written as its code."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _flat(content: object, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict) and content:
        for name, value in content.items():
            yield from _flat(value, f"{key}.{name}".lstrip("."))
    elif isinstance(content, list) and content and isinstance(content[0], dict):
        for number, value in enumerate(content, start=1):
            yield from _flat(value, f"{key}.{number}")
    else:
        yield key, content


def _value(value: object) -> str:
    text = "—" if value is None else plain(str(value))
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}… ({len(text)} characters)"
