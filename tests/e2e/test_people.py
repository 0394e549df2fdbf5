"""People come, go and change their minds while a study runs: nothing is restarted, nobody else notices."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.consortium import OnDisk, write_consortium
from tests.e2e.damaged_site import start_damaged
from tests.pauses import Pauses

from mmfed_simulations.processes.federation import Federation
from mmfed_simulations.processes.programs import free_port, wait_until

pytestmark = pytest.mark.timeout(1800)
"""Each wait has an end of its own; that of all together must not depend on the machine's speed."""

ROUNDS = 900
"""More than any test here takes; each ends with the study still on."""
SECONDS = 120.0
STOPPED_SECONDS = 10.0
TOLD_SECONDS = 60.0


def change(file: Path, pattern: str, text: str) -> None:
    """Replace every line of a file that begins so."""
    before = file.read_text(encoding="utf-8")
    after, count = re.subn(rf"^#? ?{pattern} =.*$", text, before, flags=re.MULTILINE)
    assert count
    file.write_text(after, encoding="utf-8")


def consortium(folder: Path, sites: int, *, least: int, epochs: int = 1) -> OnDisk:
    """A long study; with many epochs, of one patient a step, a round takes minutes."""
    there = write_consortium(folder, ROUNDS, sites=sites)
    change(there.study, "minimum_sites", f"minimum_sites = {least}")
    change(there.study, "local_epochs", f"local_epochs = {epochs}")
    change(there.study, "batch", f"batch = {int(epochs > 1)}")
    return there


def of_site(federation: Federation, site: str) -> dict[str, Any]:
    """A site as the server's status shows it."""
    return next(s for s in federation.status()["sites"] if s["site"] == site)


def takes_part(federation: Federation, site: str) -> Callable[[], bool]:
    """A condition: a round that ends after now counts an update of the site."""
    known = of_site(federation, site)["rounds"]
    return lambda: bool(of_site(federation, site)["rounds"] > known)


def wait_for_stop(federation: Federation, site: str, state: str, code: str) -> float:
    """As :func:`wait_for_site`, within the seconds that are promised to a site's person."""
    with Pauses() as pauses:
        seconds = wait_for_site(federation, site, state, code, SECONDS)
    assert seconds < STOPPED_SECONDS + pauses.seconds
    return seconds


def wait_for_site(federation: Federation, site: str, state: str, code: str, seconds: float) -> float:
    """Wait until a site's own status shows a state with a code and its cause; gives the seconds."""
    began = time.monotonic()

    def shown() -> bool:
        status = federation.site_status(site)
        return (status.get("state"), status.get("code")) == (state, code)

    try:
        wait_until(shown, seconds, f"{site}: {state} {code}")
    except Exception:
        print(federation.site_status(site))
        raise
    status = federation.site_status(site)
    assert not code or (status["cause"] and status["next_step"])
    return time.monotonic() - began


def receipts(federation: Federation, site: str) -> int:
    """How many messages with content have left a site."""
    return sum(e.kind == "receipt" and "error" not in e.body for e in federation.ledger(site))


def figures(port: int) -> dict[str, float]:
    """What Prometheus reads."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10.0) as answer:
        lines = answer.read().decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if line and not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def test_sites_come_go_and_change_keys_while_a_study_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = consortium(tmp_path / "consortium", 4, least=2)
    revoked, rotated, untouched, late = there.cohorts
    lines = []
    first = {site: there.cohorts[site] for site in (revoked, rotated, untouched)}
    with Federation(tmp_path / "real", first, there.study) as federation:
        federation.assemble()
        wait_until(lambda: federation.status()["round"] >= 1, SECONDS, "the first round")
        server, node = federation.server, federation.site_status(untouched)["node_pid"]
        home = ("--dir", str(federation.home))

        began = time.monotonic()
        federation.type("coordinator", "mmfed-server", "enrol", late, *home)
        federation.cohorts[late] = there.cohorts[late]
        federation.join(late)
        federation.approve(late)
        federation.start_site(late)
        wait_until(lambda: late in {s["site"] for s in federation.status()["sites"]}, SECONDS, "the site")
        wait_until(takes_part(federation, late), SECONDS, "an update of the new site")
        lines.append(f"a site added: took part {time.monotonic() - began:.1f} s after its kit was asked for")

        federation.type("coordinator", "mmfed-server", "enrol", "--revoke", revoked, *home)
        seconds = wait_for_site(federation, revoked, "trying again", "MMF-472", TOLD_SECONDS)
        assert of_site(federation, revoked)["state"] == "revoked"
        counted = of_site(federation, revoked)["rounds"]
        lines.append(f"a site revoked: its own status says MMF-472 after {seconds:.1f} s")

        began, old = time.monotonic(), of_site(federation, rotated)["rounds"]
        federation.type("coordinator", "mmfed-server", "enrol", "--rotate", rotated, *home)
        federation.type(
            rotated, "mmfed-client", "rotate", "--yes", "--home", str(federation.site_home(rotated))
        )
        wait_until(takes_part(federation, rotated), SECONDS, "an update under the new key")
        assert any(entry.kind == "rotation" for entry in federation.ledger(rotated))
        lines.append(f"a key rotated: took part with the new one after {time.monotonic() - began:.1f} s")
        assert of_site(federation, rotated)["rounds"] > old > 0

        assert of_site(federation, revoked)["rounds"] == counted
        status = federation.site_status(untouched)
        assert (status["node_pid"], status["restarts"]) == (node, 0)
        assert of_site(federation, untouched)["refusals"] == 0
        assert server is federation.server
        assert server is not None
        assert server.running
        assert all(program.running for program in federation.sites.values())
    with capsys.disabled():
        print("", *lines, sep="\n  ")


def test_what_a_site_decides_holds_within_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = consortium(tmp_path / "consortium", 1, least=1, epochs=1000)
    (site,) = there.cohorts
    lines = []
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation:
        home = federation.site_home(site)
        words = ("--home", str(home))
        federation.found()
        federation.start_server()
        federation.wait_for_server()
        federation.join(site)
        change(home / "policy.toml", "two_person", "two_person = true")
        federation.start_site(site)

        wait_for_site(federation, site, "waiting for approval", "MMF-332", SECONDS)
        federation.type(site, "mmfed-client", "approve", "--yes", "--by", "First Reader", *words)
        wait_for_stop(federation, site, "waiting for approval", "MMF-334")
        again = federation.call("mmfed-client", "approve", "--yes", "--by", "first  reader", *words)
        assert again.returncode != 0
        assert not federation.site_status(site)["node_pid"]
        assert receipts(federation, site) == 0
        federation.type(site, "mmfed-client", "approve", "--yes", "--by", "Second Reader", *words)
        lines.append("two people: one and the same again was refused, the second let it begin")
        in_training(federation, site)

        change(home / "policy.toml", "most_rounds", "most_rounds = 3")
        seconds = wait_for_stop(federation, site, "blocked", "MMF-326")
        assert stands_still(federation, site)
        lines.append(f"a policy tightened in the middle of a training: it ended after {seconds:.1f} s")
        change(home / "policy.toml", "most_rounds", "most_rounds = 1000")
        in_training(federation, site)

        done = federation.type(site, "mmfed-client", "revoke", "--by", "First Reader", "--json", *words)
        told = json.loads(done.stdout)
        assert told["stopped"]
        assert told["seconds"] < STOPPED_SECONDS
        lines.append(f"`revoke` in the middle of a training: nothing ran after {told['seconds']:.1f} s")
        wait_for_stop(federation, site, "waiting for approval", "MMF-332")
        assert stands_still(federation, site)
        assert not any(entry.kind == "receipt" for entry in after_revocation(federation, site))

        federation.type(site, "mmfed-client", "approve", "--yes", "--by", "First Reader", *words)
        federation.type(site, "mmfed-client", "approve", "--yes", "--by", "Second Reader", *words)
        in_training(federation, site)
        approved = federation.site_status(site)["study_hash"]
        change(there.study, "local_epochs", "local_epochs = 999")
        assert federation.server is not None
        federation.server.stop()
        federation.start_server()
        federation.wait_for_server()
        seconds = wait_for_site(federation, site, "waiting for approval", "MMF-332", TOLD_SECONDS)
        assert federation.site_status(site)["study_hash"] != approved
        assert stands_still(federation, site)
        lines.append(f"a study changed and signed again: not run, {seconds:.1f} s after the server began")
        federation.type(site, "mmfed-client", "approve", "--yes", "--by", "First Reader", *words)
        federation.type(site, "mmfed-client", "approve", "--yes", "--by", "Second Reader", *words)
        in_training(federation, site)
        assert federation.site_status(site)["study_hash"] != approved
    with capsys.disabled():
        print("", *lines, sep="\n  ")


def in_training(federation: Federation, site: str) -> None:
    """Wait until a site trains."""
    wait_until(lambda: federation.site_status(site).get("doing") == "train", SECONDS, "a training")


def stands_still(federation: Federation, site: str) -> bool:
    """Whether no node of the site runs; and none of its messages has left since the last look."""
    import psutil

    status, before = federation.site_status(site), receipts(federation, site)
    children = psutil.Process(federation.sites[site].process.pid).children(recursive=True)
    return not status["node_pid"] and not children and receipts(federation, site) == before


def after_revocation(federation: Federation, site: str) -> list[Any]:
    """What the ledger holds after the last revocation."""
    entries = federation.ledger(site)
    last = max(i for i, entry in enumerate(entries) if entry.kind == "revocation")
    return entries[last + 1 :]


def test_a_site_refused_three_times_in_a_row_is_kept_out_until_it_is_let_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = consortium(tmp_path / "consortium", 3, least=2)
    broken, port = "site-02", free_port()
    lines = []
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation:
        federation.found()
        change(federation.home / "federation.toml", "metrics_port", f"metrics_port = {port}")
        federation.start_server()
        federation.wait_for_server()
        for site in there.cohorts:
            federation.join(site)
            federation.approve(site)
            if site != broken:
                federation.start_site(site)
        began = time.monotonic()
        start_damaged(federation, broken)
        wait_until(lambda: bool(of_site(federation, broken)["quarantined"]), SECONDS, "the quarantine")
        shown = of_site(federation, broken)
        lines.append(
            f"in quarantine after {shown['refusals']} refusals: {shown['last_refusal']}, "
            f"{time.monotonic() - began:.0f} s after its start"
        )
        assert shown["quarantined"].startswith("MMF-45")
        counted = f'mmfed_refusals_total{{code="{shown["quarantined"]}",site="{broken}"}}'
        assert figures(port)[counted] >= 3
        at = federation.status()["round"]
        wait_until(lambda: federation.status()["round"] >= at + 3, SECONDS, "further rounds")
        assert of_site(federation, broken)["rounds"] == 0
        code = shown["quarantined"]
        wait_until(
            lambda: federation.site_status(broken)["code"] == code, TOLD_SECONDS, "the site's own word"
        )

        federation.sites[broken].stop()
        federation.start_site(broken)
        wait_until(lambda: federation.site_status(broken).get("state") == "ready", SECONDS, "the sound site")
        assert of_site(federation, broken)["quarantined"]
        began = time.monotonic()
        federation.type(
            "coordinator", "mmfed-server", "enrol", "--lift", broken, "--dir", str(federation.home)
        )
        wait_until(takes_part(federation, broken), SECONDS, "an update of the site that was let back")
        lines.append(f"let back: took part after {time.monotonic() - began:.1f} s")
    with capsys.disabled():
        print("", *lines, sep="\n  ")
