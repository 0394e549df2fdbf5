"""Studies one after another on a server that goes on serving: submitted, approved ahead, run, over kills."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.consortium import OnDisk, write_plain_consortium

from mmfed_common.study import Study
from mmfed_simulations.processes.federation import Federation
from mmfed_simulations.processes.programs import wait_until

SECONDS = 240.0
SHORT, LONG = 3, 80
"""Rounds of the first study, and of the one that is killed in the middle."""


def changed(there: OnDisk, name: str, rounds: int) -> OnDisk:
    """Another study of the same sites."""
    text = there.study.read_text(encoding="utf-8")
    text = text.replace('name = "benchmark"', f'name = "{name}"')
    text = text.replace(f"rounds = {SHORT}\n", f"rounds = {rounds}\n")
    path = there.study.with_name(f"{name}.toml")
    path.write_text(text, encoding="utf-8")
    return OnDisk(there.cohorts, path)


def typed(federation: Federation, *words: str) -> dict[str, Any]:
    """What a command of the coordinator prints as JSON."""
    done = federation.type("coordinator", "mmfed-server", *words, "--json", "--dir", str(federation.home))
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def waiting(federation: Federation) -> list[str]:
    """Names of the studies whose turn comes later."""
    return [study["name"] for study in federation.status()["waiting"]]


def on(federation: Federation) -> tuple[str, str]:
    """The study that is on, and how it stands."""
    status = federation.status()
    return status["study"].get("name", ""), status["state"]


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_a_second_study_is_submitted_approved_ahead_and_run_without_a_restart(tmp_path: Path) -> None:
    first = write_plain_consortium(tmp_path / "consortium", SHORT, sites=2, least=2)
    second, third = changed(first, "second", LONG), changed(first, "third", SHORT)
    expected = second.simulated_weights(tmp_path / "simulated")
    early, late = first.cohorts
    with Federation(tmp_path / "real", first.cohorts, first.study) as federation:
        federation.found()
        federation.start_server()
        federation.wait_for_server()
        for site in (early, late):
            federation.join(site)
            federation.approve(site)
        federation.start_site(early)
        # Typed where a server runs: it waits for its turn there.
        told = typed(federation, "start", "--study", str(second.study))
        assert (told["name"], told["place"], told["served"]) == ("second", 2, True)
        assert typed(federation, "study", "submit", str(third.study))["place"] == 3
        assert typed(federation, "study", "submit", str(second.study))["place"] == 2
        assert waiting(federation) == ["second", "third"]
        dropped = typed(federation, "study", "drop", Study.load(third.study).hash[:8])
        assert dropped["name"] == "third"
        for site in (early, late):
            federation.approve(site)  # the offered one is approved: this is the one that waits
        assert federation.server is not None
        federation.server.kill()
        federation.start_server()
        federation.wait_for_server()
        wait_until(lambda: on(federation)[0] == "benchmark", SECONDS, "the first study again")
        assert waiting(federation) == ["second"]

        federation.start_site(late)
        pids = {site: program.process.pid for site, program in federation.sites.items()}
        wait_until(lambda: on(federation)[0] == "second", SECONDS, "the second study")
        wait_until(lambda: federation.status()["round"] >= 2, SECONDS, "some rounds of it")
        assert federation.status()["state"] == "running"
        federation.server.kill()
        federation.start_server()  # as systemd does: with the command that named the first study
        federation.wait_for_server()
        wait_until(lambda: on(federation) == ("second", "finished"), SECONDS, "its end")

        assert waiting(federation) == []
        runs = typed(federation, "runs")
        assert runs["queue"] == []
        newest, oldest = runs["runs"]
        assert [(run["study_name"], run["status"]) for run in (oldest, newest)] == [
            ("benchmark", "finished"),
            ("second", "finished"),
        ]
        for site, program in federation.sites.items():
            assert program.running
            assert program.process.pid == pids[site]
            approved = [entry.body["name"] for entry in federation.ledger(site) if entry.kind == "approval"]
            assert approved == ["benchmark", "second"]
        assert federation.release(tmp_path / "bundle").read_bytes() == expected

        words = ("study", "submit", str(first.study), "--json", "--dir", str(federation.home))
        refused = federation.call("mmfed-server", *words)
        assert refused.returncode != 0
        assert json.loads(refused.stdout)["error"]["code"] == "MMF-558"
