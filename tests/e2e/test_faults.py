"""Faults on the way between sites and server: the run goes on by itself, to the same weights."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.consortium import OnDisk, write_consortium
from tests.e2e.cuttable_wire import CuttableWire
from tests.e2e.killing import repeats
from tests.e2e.meddling_proxy import Meddling, MeddlingProxy

from mmfed_server.federation import Federation as CoordinatorFolder
from mmfed_simulations.processes.federation import Federation
from mmfed_simulations.processes.programs import wait_until

STATUSES = (500, 404, 413, 429, 502, 503)
PATHS = ("/pull-messages", "/pull-object", "/push-messages", "/push-object")
ROUND_SECONDS = 120.0
RUN_SECONDS = 600.0


@dataclass(frozen=True)
class Disturbed:
    """What faults cost a run that ended with the weights of an undisturbed one.

    Attributes
    ----------
    lines
        One on each fault, for who reads.
    seconds
        Of each fault, until the run had gone on or the site took part again.
    repeated
        How often a round was trained once more, at the site where that was most often.
    """

    lines: list[str]
    seconds: list[float]
    repeated: int

    def went_on(self, faults: int) -> bool:
        """Whether the run went on after each of so many faults, with no round trained oftener than that."""
        in_time = all(0.0 < seconds < ROUND_SECONDS for seconds in self.seconds)
        return len(self.seconds) == faults and in_time and self.repeated <= faults


def meddling(federation: Federation, stack: ExitStack) -> MeddlingProxy:
    """A proxy before the federation's server."""
    held = CoordinatorFolder.load(federation.home).certificates
    authority = federation.home / "ca" / "ca.pem"
    return stack.enter_context(MeddlingProxy(held.cert_path, held.key_path, authority, federation.port))


def another_round(federation: Federation, seconds: float = ROUND_SECONDS) -> float:
    """Wait until a round that is not under way yet has been committed; gives the seconds."""
    reached, began = int(federation.status()["round"]), time.monotonic()
    wait_until(
        lambda: int(federation.status()["round"]) >= reached + 2 or is_over(federation), seconds, "a round"
    )
    return time.monotonic() - began


def is_over(federation: Federation) -> bool:
    """Whether the run has finished."""
    return bool(federation.status()["state"] == "finished")


def assert_same(federation: Federation, there: OnDisk, folder: Path, rounds: int) -> None:
    """The run ends, with the weights of an undisturbed one, and every site counts in every round."""
    status = federation.wait_for("finished", RUN_SECONDS)
    assert [site["rounds"] for site in status["sites"]] == [rounds] * len(there.cohorts)
    expected = there.simulated_weights(folder / "simulated")
    assert federation.release(folder / "bundle").read_bytes() == expected


def trainings(federation: Federation, site: str) -> Counter[int]:
    """Round → how many updates of it left a site."""
    return Counter(
        entry.body["round"]
        for entry in federation.ledger(site)
        if entry.kind == "receipt" and entry.body["kind"] == "train" and "error" not in entry.body
    )


def disturb(tmp_path: Path, rounds: int, faults: list[tuple[int, str]]) -> Disturbed:
    """Each fault hits the first site in the middle of a run."""
    there = write_consortium(tmp_path / "consortium", rounds, sites=3)
    lines, every = [], []
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation, ExitStack() as stack:
        federation.found()
        proxy = meddling(federation, stack)
        federation.start_server()
        federation.wait_for_server()
        first = next(iter(there.cohorts))
        for site in there.cohorts:
            federation.join(site)
            if site == first:
                federation.redirect(site, proxy.port)
            federation.approve(site)
            federation.start_site(site)
        wait_until(lambda: federation.status()["round"] >= 1, ROUND_SECONDS, "the first round")
        for status, path in faults:
            planned = proxy.plan(Meddling(path, status))
            assert planned.done.wait(ROUND_SECONDS)
            assert not is_over(federation), "the study was too short for all faults"
            seconds = another_round(federation)
            every.append(seconds)
            lines.append(f"HTTP {status} on {path}: next rounds after {seconds:.1f} s")
        assert federation.sites[first].running
        assert_same(federation, there, tmp_path, rounds)
        repeated = repeats(federation)
        lines.append(f"one round at most trained {1 + repeated} times")
    return Disturbed(lines, every, repeated)


def test_one_bad_answer_of_a_proxy_does_not_end_a_site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = [(500, "/pull-messages"), (429, "/push-object")]
    found = disturb(tmp_path, 30, faults)
    assert found.went_on(len(faults)), found
    with capsys.disabled():
        print("", *found.lines, sep="\n  ")


@pytest.mark.e2e
def test_every_bad_answer_to_every_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faults = [(status, path) for path in PATHS for status in STATUSES]
    found = disturb(tmp_path, 120, faults)
    assert found.went_on(len(faults)), found
    with capsys.disabled():
        print("", *found.lines, sep="\n  ")


def cut_and_killed(tmp_path: Path, rounds: int, seconds: float) -> Disturbed:
    """Sites and server lose each other in every way, one after another."""
    there = write_consortium(tmp_path / "consortium", rounds, sites=3)
    uploading, distant, restarted = there.cohorts
    lines = []
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation, ExitStack() as stack:
        federation.found()
        proxy = meddling(federation, stack)
        wire = stack.enter_context(CuttableWire(federation.port))
        ports = {uploading: proxy.port, distant: wire.port, restarted: federation.port}
        federation.start_server()
        federation.wait_for_server()
        for site, port in ports.items():
            federation.join(site)
            federation.redirect(site, port)
            federation.approve(site)
            federation.start_site(site)
        wait_until(lambda: federation.status()["round"] >= 1, ROUND_SECONDS, "the first round")

        again = _killed_site(federation, restarted)
        lines.append(f"a site killed: {again:.1f} s until it took part again")
        told, back = _cut(federation, distant, wire, seconds)
        lines.append(f"network gone for {seconds:g} s: {told}; back after {back:.1f} s")
        before = Counter(trainings(federation, uploading))
        gone = proxy.plan(Meddling("/push-object", last_object=True, deed=federation.sites[uploading].kill))
        assert gone.done.wait(ROUND_SECONDS)
        federation.start_site(uploading)
        without = another_round(federation)
        lines.append(f"a site gone once its answer was there: {without:.1f} s for the next")
        assert max((trainings(federation, uploading) - before).values()) == 1, "the answer did not count"

        repeated = repeats(federation)
        assert federation.server is not None
        lost = proxy.plan(Meddling("/push-object", last_object=True, deed=federation.server.kill))
        assert lost.done.wait(ROUND_SECONDS)
        federation.start_server()
        federation.wait_for_server()
        seconds_lost = another_round(federation)
        lines.append(f"the server killed between upload and aggregation: {seconds_lost:.1f} s for the next")
        assert not is_over(federation), "the study was too short for all faults"
        assert repeats(federation) <= repeated + 1
        assert_same(federation, there, tmp_path, rounds)
        repeated = repeats(federation)
    return Disturbed(lines, [again, back, without, seconds_lost], repeated)


def _killed_site(federation: Federation, site: str) -> float:
    """Kill a site as a loss of power would, start it at once; gives the seconds until it takes part."""
    federation.sites[site].kill()
    known = sum(trainings(federation, site).values())
    began = time.monotonic()
    federation.start_site(site)
    wait_until(
        lambda: sum(trainings(federation, site).values()) > known, ROUND_SECONDS, f"an update of {site}"
    )
    return time.monotonic() - began


def _cut(federation: Federation, site: str, wire: CuttableWire, seconds: float) -> tuple[str, float]:
    """Cut a wire for a while; what was told of it, and the seconds until the run had gone on."""
    wire.cut()
    began, seen = time.monotonic(), ""
    while time.monotonic() < began + seconds:
        time.sleep(0.2)
        seen = seen or federation.site_status(site).get("code", "")
    told = f"the site says {seen} {federation.site_status(site)['state']}"
    absent = not next(s for s in federation.status()["sites"] if s["site"] == site)["online"]
    wire.mend()
    back = another_round(federation)
    return f"{told}; the server {'has' if absent else 'has not yet'} missed it", back


@pytest.mark.e2e
def test_sites_and_server_lose_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = cut_and_killed(tmp_path, 14, 15.0)
    assert found.went_on(4), found
    with capsys.disabled():
        print("", *found.lines, sep="\n  ")


@pytest.mark.e2e
def test_the_network_is_gone_for_ninety_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = cut_and_killed(tmp_path, 20, 90.0)
    assert found.went_on(4), found
    assert "the site says MMF-470" in found.lines[1]
    assert "the server has missed it" in found.lines[1]
    with capsys.disabled():
        print("", *found.lines, sep="\n  ")
