"""Secure aggregation between real processes over TLS, through a kill, to the weights of a simulation."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.consortium import OnDisk, write_consortium
from tests.e2e.killing import kill_at_random, repeats

from mmfed_client.masking.peers import PEERS
from mmfed_common import messages as m
from mmfed_simulations.processes.federation import Federation
from mmfed_simulations.processes.programs import wait_until

ROUNDS = 6
RUN_SECONDS = 300.0
PHASES = {m.MASK_KEYS, m.MASK_SHARES, m.TRAIN, m.MASK_AGREE, m.MASK_OPEN}


def write_secure(folder: Path) -> OnDisk:
    """Three sites whose updates are summed under masks."""
    there = write_consortium(folder, ROUNDS, sites=3)
    text = there.study.read_text(encoding="utf-8")
    text = text.replace("[aggregation]\n", "[aggregation]\nsecure = true\n")
    there.study.write_text(text, encoding="utf-8")
    return there


def test_three_sites_mask_and_a_kill_changes_nothing(tmp_path: Path) -> None:
    there = write_secure(tmp_path / "consortium")
    expected = there.simulated_weights(tmp_path / "simulated")
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation:
        federation.assemble()
        wait_until(lambda: federation.status()["round"] >= 1, RUN_SECONDS, "round 1")
        killed = sorted(there.cohorts)[1]
        federation.sites[killed].kill()
        federation.start_site(killed)
        federation.wait_for("finished", RUN_SECONDS)
        assert federation.release(tmp_path / "bundle").read_bytes() == expected
        names = set(there.cohorts)
        for site in names:
            entries = federation.ledger(site)
            receipts = [
                entry.body for entry in entries if entry.kind == "receipt" and "error" not in entry.body
            ]
            told = {body["kind"] for body in receipts if body["kind"].startswith("train")}
            assert told == PHASES
            (sums,) = [body for body in receipts if body["kind"] == m.MOMENTS]
            assert sums["metrics"] == {"num-examples": 0}
            assert all(body["metrics"]["num-examples"] == 0 for body in receipts if body["kind"] in PHASES)
            opened = {(body["round"], body["opened"]) for body in receipts if "opened" in body}
            assert sorted(number for number, _ in opened) == list(range(ROUNDS + 1))
            (peers,) = [entry.body["peers"] for entry in entries if entry.kind == PEERS]
            assert set(peers) == names


@pytest.mark.e2e
def test_kills_of_server_and_sites_in_any_step_change_nothing(tmp_path: Path) -> None:
    """A round that was opened and lost is opened again for the same sites, and for no others."""
    there = write_secure(tmp_path / "consortium")
    expected = there.simulated_weights(tmp_path / "simulated")
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation:
        federation.assemble()
        kills = kill_at_random(federation, 4, seed=7)
        federation.wait_for("finished", RUN_SECONDS)
        assert kills.done
        assert repeats(federation) <= len(kills.done)
        assert federation.release(tmp_path / "bundle").read_bytes() == expected
