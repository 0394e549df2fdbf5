"""kill -9 of anything, at any time: the same run goes on, to the same weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.e2e.consortium import OnDisk, write_consortium
from tests.e2e.killing import Kills, kill_at_random, repeats

from mmfed_simulations.processes.federation import Federation

ROUNDS = 10
RUN_SECONDS = 600.0
KILLS = int(os.environ.get("MMFED_E2E_KILLS", "100"))
KILLS_OF_A_RUN = 8


def disturbed(there: OnDisk, folder: Path, kills: int, seed: int) -> tuple[Kills, bytes]:
    """One run with some kills; what they cost, and the weights."""
    with Federation(folder, there.cohorts, there.study) as federation:
        federation.assemble()
        done = kill_at_random(federation, kills, seed)
        federation.wait_for("finished", RUN_SECONDS)
        done.repeated = repeats(federation)
        return done, federation.release(folder / "bundle").read_bytes()


def test_a_few_kills(tmp_path: Path) -> None:
    there = write_consortium(tmp_path / "consortium", 3 * ROUNDS, sites=3)  # so that it lasts for three kills
    expected = there.simulated_weights(tmp_path / "simulated")
    kills, weights = disturbed(there, tmp_path / "real", kills=3, seed=1)
    assert len(kills.done) == 3
    assert kills.repeated <= len(kills.done)
    assert weights == expected


@pytest.mark.e2e
@pytest.mark.timeout(7200)
def test_a_hundred_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = write_consortium(tmp_path / "consortium", ROUNDS)
    expected = there.simulated_weights(tmp_path / "simulated")
    done, lines, seed = 0, [], 0
    while done < KILLS:
        seed += 1
        count = min(KILLS_OF_A_RUN, KILLS - done)
        kills, weights = disturbed(there, tmp_path / f"run-{seed}", count, seed)
        assert kills.done, "the run was over before anything was killed"
        same = weights == expected
        done += len(kills.done)
        hit = ", ".join(f"{who} in round {number}" for who, number in kills.done)
        lines.append(f"run {seed:2d}  kills {len(kills.done)}  repeated {kills.repeated}  same {same}  {hit}")
        with capsys.disabled():
            print(f"\n{lines[-1]}", end="", flush=True)
        assert same
        assert kills.repeated <= len(kills.done)
    with capsys.disabled():
        print(f"\n{done} kills, all runs finished with the weights of the undisturbed one", flush=True)
