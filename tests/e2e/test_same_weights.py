"""Real processes over TLS end with the weights of a simulation, bit for bit (short form: a few kills)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.consortium import write_consortium

from mmfed_simulations.processes.federation import Federation

ROUNDS = 10
RUN_SECONDS = 300.0


@pytest.mark.e2e
def test_five_sites_ten_rounds_end_with_the_weights_of_a_simulation(tmp_path: Path) -> None:
    there = write_consortium(tmp_path / "consortium", ROUNDS)
    expected = there.simulated_weights(tmp_path / "simulated")
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation:
        federation.assemble()
        status = federation.wait_for("finished", RUN_SECONDS)
        assert status["round"] == ROUNDS
        assert all(site["rounds"] == ROUNDS and not site["refusals"] for site in status["sites"])
        assert federation.release(tmp_path / "bundle").read_bytes() == expected
        for site in there.cohorts:
            updates = [
                e for e in federation.ledger(site) if e.kind == "receipt" and e.body["kind"] == "train"
            ]
            assert [entry.body["round"] for entry in updates] == list(range(1, ROUNDS + 1))
