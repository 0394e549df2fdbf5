"""Runs items side by side, each with a deadline, so that nothing that hangs can hang the check."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmfed_client.preflight.finding import Finding, fault, from_error
from mmfed_client.preflight.subject import Subject
from mmfed_common.errors import MmfedError

Check = Callable[[Subject], Iterable[Finding]]
Report = Callable[[str], None]


@dataclass(frozen=True)
class Item:
    """One thing to check.

    Attributes
    ----------
    name
        What it is called in the report.
    deadline
        Seconds after which it is given up.
    check
        Gives its findings; may raise what the rest of mmfed raises.
    """

    name: str
    deadline: float
    check: Check


@dataclass(frozen=True)
class Outcome:
    """The findings of one item."""

    name: str
    findings: tuple[Finding, ...]


def run_groups(
    groups: Sequence[Sequence[Item]], subject: Subject, seconds: float, report: Report | None = None
) -> list[Outcome]:
    """Run groups side by side and the items of a group one after the other.

    Parameters
    ----------
    seconds
        Time for everything; an item's own deadline counts as well.
    report
        Called with the name of each item that is done.

    Returns
    -------
    One outcome an item, in the order of groups and items.
    """
    end = time.monotonic() + seconds
    outcomes: list[list[Outcome]] = [[] for _ in groups]

    def work(items: Sequence[Item], into: list[Outcome]) -> None:
        for item in items:
            into.append(_run(item, subject, end))
            if report is not None:
                report(item.name)

    threads = [
        threading.Thread(target=work, args=(items, into), daemon=True)
        for items, into in zip(groups, outcomes, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [outcome for group in outcomes for outcome in group]


def _run(item: Item, subject: Subject, end: float) -> Outcome:
    """Run one item in a thread of its own, which is left behind if it does not come back."""
    began = time.monotonic()
    found: list[Finding] = []

    def collect() -> None:
        try:
            for finding in item.check(subject):
                found.append(finding)
        except MmfedError as error:
            found.append(from_error(error))
        except Exception as error:  # noqa: BLE001 - one item's defect must not hide the other items
            found.append(defect(error, item.name))

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    allowed = max(0.0, min(item.deadline, end - began))
    thread.join(allowed)
    late = thread.is_alive()
    findings = list(found)
    if late:
        findings.append(fault("MMF-130", f"gave up after {allowed:.0f} s", item.name))
    seconds = time.monotonic() - began
    named = tuple(finding.of(item.name, seconds) for finding in findings)
    return Outcome(item.name, named)


def defect(error: Exception, item: str) -> Finding:
    """Report something unexpected in one item, with the place in the program."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    return fault("MMF-131", f"{type(error).__name__}: {error} ({place})", item)
