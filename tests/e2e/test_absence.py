"""A site is late, leaves or dies in the middle of a round, or the server is away: the others go on.

In Flower a site that was killed cannot come back for a minute, stale work is done before new work, and a run
ends with an outage of its server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.consortium import write_plain_consortium
from tests.e2e.slow_site import brake_of, start_slow
from tests.e2e.test_people import change, of_site, takes_part

from mmfed_simulations.processes.federation import Federation
from mmfed_simulations.processes.programs import wait_until

SLOW = "site-2"
DEADLINE = 40.0
ROUNDS = 900
"""More than any test here takes."""
SECONDS = 120.0
AT_ONCE = 25.0
LEASE_SECONDS = 60.0
OUTAGE_SECONDS = 90.0


def begin(federation: Federation) -> None:
    """Three sites, of which one can be held up; a round needs two."""
    federation.found()
    federation.start_server()
    federation.wait_for_server()
    for site in federation.cohorts:
        federation.join(site)
        federation.approve(site)
        if site == SLOW:
            start_slow(federation, site)
        else:
            federation.start_site(site)
    wait_until(lambda: of_site(federation, SLOW)["rounds"] >= 2, SECONDS, "the first rounds of all")


def hold_up(federation: Federation) -> int:
    """Let the site stay in a training; gives the round of it."""
    brake_of(federation, SLOW).touch()

    def held() -> bool:
        told = federation.site_status(SLOW)
        return told.get("doing") == "train" and int(told["round"]) == federation.status()["round"] + 1

    wait_until(held, SECONDS, "a training")
    time.sleep(1.0)  # the others have answered, and the round is this one for as long as the site is awaited
    wait_until(held, SECONDS, "a training")
    return int(federation.site_status(SLOW)["round"])


def reason(federation: Federation, number: int) -> Callable[[], str]:
    """Why the site's update was not taken in a round; empty while the round goes on."""

    def told() -> str:
        entries: list[dict[str, Any]] = federation.record()[0]
        found = next((entry for entry in entries if entry["round"] == number), None)
        if found is None:
            return ""
        assert set(found["taken"]) == set(federation.cohorts) - {SLOW}
        return str(found["refused"].get(SLOW, "nothing was told"))

    return told


def test_a_straggler_and_a_site_that_leaves_cost_nobody_anything(tmp_path: Path) -> None:
    there = write_plain_consortium(tmp_path / "consortium", ROUNDS, sites=3, least=2)
    change(there.study, "minimum_sites", f"minimum_sites = 2\ndeadline_seconds = {DEADLINE}")
    with Federation(tmp_path, there.cohorts, there.study) as federation:
        begin(federation)
        number = hold_up(federation)
        told = reason(federation, number)
        wait_until(lambda: bool(told()), SECONDS, "the deadline")
        assert told().startswith("MMF-401")
        brake_of(federation, SLOW).unlink()
        wait_until(takes_part(federation, SLOW), SECONDS, "an update of the straggler")
        refused = [entry["refused"].get(SLOW, "") for entry in federation.record()[0]]
        assert [text[:7] for text in refused if text] == ["MMF-401", "MMF-462"]

        number = hold_up(federation)
        told, began = reason(federation, number), time.monotonic()
        federation.sites[SLOW].stop()
        wait_until(lambda: bool(told()), SECONDS, "the end of the round")
        assert told().startswith("MMF-465")
        assert time.monotonic() - began < AT_ONCE
        brake_of(federation, SLOW).unlink()
        federation.start_site(SLOW)
        wait_until(takes_part(federation, SLOW), SECONDS, "an update of the site that came back")


@pytest.mark.e2e
def test_a_site_killed_for_good_and_a_server_away_for_long(tmp_path: Path) -> None:
    there = write_plain_consortium(tmp_path / "consortium", ROUNDS, sites=3, least=2)
    with Federation(tmp_path, there.cohorts, there.study) as federation:
        begin(federation)
        number = hold_up(federation)
        told, began = reason(federation, number), time.monotonic()
        federation.sites[SLOW].kill()
        wait_until(lambda: bool(told()), SECONDS, "the end of the round")
        assert told()[:7] in ("MMF-401", "MMF-465")  # its deadline, or the end of its lease
        wait_until(lambda: not of_site(federation, SLOW)["online"], SECONDS, "the end of the lease")
        assert time.monotonic() - began < LEASE_SECONDS
        number = int(federation.status()["round"])
        wait_until(lambda: federation.status()["round"] >= number + 3, SECONDS, "rounds of the others")
        brake_of(federation, SLOW).unlink()
        federation.start_site(SLOW)
        wait_until(takes_part(federation, SLOW), SECONDS, "an update of the site that came back")

        assert federation.server is not None
        run = federation.status()["run"]
        federation.server.kill()
        time.sleep(OUTAGE_SECONDS)  # the length of the outage
        assert {federation.site_status(site)["code"] for site in there.cohorts} == {"MMF-470"}
        reached = federation.status()["round"]
        federation.start_server()
        federation.wait_for_server()
        for site in there.cohorts:
            wait_until(takes_part(federation, site), SECONDS, f"an update of {site}")
        status = federation.status()
        assert (status["run"], status["round"] > reached) == (run, True)
