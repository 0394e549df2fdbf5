"""Every item of the check in the order of the report, and the check itself."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from mmfed_client.preflight import identity, machine, permission, record
from mmfed_client.preflight.enrolment import enrolled, fetch_offer, temporary_folder
from mmfed_client.preflight.finding import Finding, not_applicable
from mmfed_client.preflight.runner import Item, Outcome, Report, run_groups
from mmfed_client.preflight.server import ServerProbe
from mmfed_client.preflight.subject import Subject
from mmfed_client.preflight.workbench import TRIAL_ITEMS, Workbench

SECONDS = 55.0
"""Time for everything: the check promises less than a minute."""
FETCH_SECONDS = 8.0

SITE = (
    Item("software", 10.0, machine.software),
    Item("system limits", 5.0, machine.system_limits),
    Item("home", 10.0, machine.home_files),
    Item("permissions", 10.0, machine.permissions),
    Item("disk space", 10.0, machine.disk),
    Item("writing", 15.0, machine.writable),
    Item("key", 10.0, identity.key),
    Item("trust", 10.0, identity.trust),
    Item("ledger", 30.0, record.ledger),
    Item("other node", 5.0, record.other_node),
)
STUDY = (
    Item("study", 10.0, permission.study),
    Item("study's software", 5.0, permission.same_software),
    Item("policy", 10.0, permission.policy),
    Item("approval", 30.0, permission.approval),
    Item("knowledge pack", 30.0, permission.pack),
)
SERVER = (
    "proxy",
    "server reachable",
    "server's certificate",
    "server's name",
    "clock",
    "certificate's life",
    "server's answer",
    "enrolment",
)
TRIAL_NAMES = tuple(name for name, _ in TRIAL_ITEMS)
NAMES = (*(item.name for item in SITE), *SERVER, *(item.name for item in STUDY), *TRIAL_NAMES)
"""Every item in the order of the report."""


def check_site(
    subject: Subject,
    only: Collection[str] = (),
    seconds: float = SECONDS,
    isolate: bool = True,
    report: Report | None = None,
) -> list[Outcome]:
    """Check a site; nothing of it leaves but requests in the site's name to its own coordinator.

    Parameters
    ----------
    only
        Names of items; items that these rest on are run too, and not reported. Empty: all.
    seconds
        Time for everything.
    isolate
        Whether patients are read and the step is made in a process of their own, as they should be.
    report
        Called with the name of each item that is done.

    Returns
    -------
    One outcome an item, in the order of :data:`NAMES`.

    Raises
    ------
    ValueError
        For an unknown name in ``only``.
    """
    unknown = sorted(set(only) - set(NAMES))
    if unknown:
        raise ValueError(f"there is no item {unknown[0]!r}; the items are: {', '.join(NAMES)}")
    wanted = set(only) or set(NAMES)
    end = time.monotonic() + seconds
    bench = Workbench(seconds) if isolate else None
    try:
        with temporary_folder() as folder:
            if wanted & ({item.name for item in STUDY} | set(TRIAL_NAMES)) and subject.address is not None:
                fetch_offer(subject, Path(folder), min(FETCH_SECONDS, seconds))
            trial = _trial_items() if bench is None else bench.items
            groups = _groups(wanted, trial)
            outcomes = run_groups(groups, subject, end - time.monotonic(), report)
    finally:
        if bench is not None:
            bench.close()
    return [outcome for outcome in outcomes if outcome.name in wanted]


def all_findings(outcomes: Iterable[Outcome]) -> list[Finding]:
    """Give the findings of all items in their order."""
    return [finding for outcome in outcomes for finding in outcome.findings]


def _groups(wanted: set[str], trial: Sequence[Item]) -> list[list[Item]]:
    """Items that rest on one another stand in one group, which is run as a whole if any of it is wanted."""
    server = _server_items() if wanted & set(SERVER) else []
    needed = list(trial) if wanted & set(TRIAL_NAMES) else []
    return [
        [item for item in SITE if item.name in wanted],
        server,
        [item for item in STUDY if item.name in wanted],
        needed,
    ]


def _server_items() -> list[Item]:
    probe = ServerProbe()

    def portal(subject: Subject) -> Iterable[Finding]:
        return [not_applicable(probe.blocked)] if probe.blocked else enrolled(subject)

    return [
        Item("proxy", 20.0, probe.proxy),
        Item("server reachable", 20.0, probe.reach),
        Item("server's certificate", 20.0, probe.certificate),
        Item("server's name", 20.0, probe.name),
        Item("clock", 20.0, probe.clock),
        Item("certificate's life", 5.0, probe.life),
        Item("server's answer", 20.0, probe.answer),
        Item("enrolment", 20.0, portal),
    ]


def _trial_items() -> Sequence[Item]:
    from mmfed_client.preflight.trial import Trial

    return Trial().items
