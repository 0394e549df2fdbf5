"""Nothing that hangs or dies hangs or ends the check: patients are read in a process of their own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable

import psutil
from tests.client.preflight.small_site import Site, alarms, as_text

from mmfed_client.preflight import NAMES, Finding, State
from mmfed_client.preflight.finding import ok
from mmfed_client.preflight.items import TRIAL_NAMES
from mmfed_client.preflight.runner import Item, run_groups
from mmfed_client.preflight.subject import Subject

MODULE = "mmfed_client.preflight.workbench"


def test_a_process_of_its_own_finds_the_same(site: Site) -> None:
    site.cohort.set("clinical", "age", 4, "about 60")
    site.write()
    began = time.monotonic()
    isolated = site.check(*NAMES, isolate=True)
    assert time.monotonic() - began < 120
    here = site.check(*NAMES)
    assert [(f.name, f.state, f.code) for f in isolated] == [(f.name, f.state, f.code) for f in here]
    assert workbenches() == []


def test_a_table_that_cannot_be_read_is_given_up(site: Site) -> None:
    hanging(site)
    began = time.monotonic()
    findings = site.check(*TRIAL_NAMES, isolate=True, seconds=12.0)
    assert time.monotonic() - began < 45
    assert next((f.name, f.code) for f in alarms(findings)) == ("cohort", "MMF-130"), as_text(findings)
    assert workbenches() == []


def test_a_process_that_is_killed_is_a_finding(site: Site) -> None:
    hanging(site)
    killer = threading.Thread(target=kill_the_workbench, daemon=True)
    killer.start()
    findings = site.check(*TRIAL_NAMES, isolate=True, seconds=50.0)
    killer.join(50)
    found = alarms(findings)
    assert [(f.name, f.code) for f in found] == [("cohort", "MMF-137")], as_text(findings)
    assert "signal 9" in found[0].what
    rest = [f for f in findings if f.name != "cohort"]
    assert {f.state for f in rest} == {State.NOT_APPLICABLE}


def test_a_defect_in_one_item_leaves_the_others(site: Site) -> None:
    def broken(subject: Subject) -> Iterable[Finding]:
        raise RuntimeError("what nobody thought of")

    def fine(subject: Subject) -> Iterable[Finding]:
        return [ok("fine")]

    groups = [[Item("one", 5.0, broken), Item("two", 5.0, fine)]]
    one, two = run_groups(groups, Subject(site.home), 20.0)
    assert [(f.code, "test_isolation.py" in f.what) for f in one.findings] == [("MMF-131", True)]
    assert [f.state for f in two.findings] == [State.OK]


def test_an_item_that_hangs_keeps_what_it_found(site: Site) -> None:
    released = threading.Event()

    def hangs(subject: Subject) -> Iterable[Finding]:
        yield ok("half of it")
        released.wait(30)

    outcome, later = run_groups(
        [[Item("hangs", 2.0, hangs)], [Item("later", 5.0, lambda subject: [ok("fine")])]],
        Subject(site.home),
        20.0,
    )
    released.set()
    assert [(f.state, f.code) for f in outcome.findings] == [(State.OK, ""), (State.FAULT, "MMF-130")]
    assert [f.state for f in later.findings] == [State.OK]


def hanging(site: Site) -> None:
    """Make a table that never answers, as on a network disk that is gone."""
    table = site.cohort.folder / "protein.csv"
    table.unlink()
    os.mkfifo(table)


def workbenches() -> list[psutil.Process]:
    """Processes of this one that read patients."""
    alive = []
    for child in psutil.Process().children(recursive=True):
        try:
            if MODULE in child.cmdline():
                alive.append(child)
        except psutil.Error:
            continue
    return alive


def kill_the_workbench() -> None:
    """Kill it once it has been seen."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        for process in workbenches():
            os.kill(process.pid, signal.SIGKILL)
            return
        time.sleep(0.05)
