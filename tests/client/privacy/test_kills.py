"""A site is killed at random points: its account covers what it spent, and it goes on as if nothing was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
import torch
from tests.client.privacy.killed_site import plan_of, study_of

from mmfed_client.ledger import Ledger
from mmfed_common.privacy import epsilon_of

LONGEST = 120.0


class Sites:
    """Starts a site again and again in one home."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder, self.process = folder, process

    def start(self) -> int:
        """Start it; gives its process id."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._line()

    def ended(self) -> int:
        """Wait for its end; gives its exit status."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ended\n"
        self.process.stdin.write("reap\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    @property
    def size(self) -> int:
        """Bytes of everything that it writes as it goes on."""
        files = (self.folder / "ledger.jsonl", self.folder / "witness")
        return sum(file.stat().st_size for file in files if file.exists())

    @property
    def witnessed(self) -> set[tuple[int, int]]:
        """Round and step of everything that was about to be made."""
        file = self.folder / "witness"
        lines = file.read_text().splitlines() if file.exists() else []
        return {(int(number), int(step)) for number, step in map(str.split, lines)}

    @property
    def recorded(self) -> set[tuple[int, int]]:
        """Round and step of everything that the ledger says is paid."""
        account = Ledger(self.folder / "ledger.jsonl").privacy()
        return {(p.round, s) for study in account.studies.values() for p in study.paid for s in p.steps}


@contextmanager
def sites(folder: Path, rounds: int) -> Iterator[Sites]:
    folder.mkdir()
    command = [sys.executable, "-m", "tests.client.privacy.killed_site", str(folder), str(rounds)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield Sites(folder, process)
    finally:
        process.kill()
        process.communicate()


def kill_somewhere(site: Sites, random: Random) -> bool:
    """Kill it once it has written a random amount more, a random moment later; whether that came to be."""
    target = site.size + random.choice([0, 1, random.randrange(600), random.randrange(6000)])
    pid = site.start()
    deadline = time.monotonic() + LONGEST
    while site.size < target and time.monotonic() < deadline and _runs(pid):
        time.sleep(0.0005)
    time.sleep(random.random() * 0.01)
    os.kill(pid, signal.SIGKILL)  # its number stays its own until ``ended``
    return site.ended() == -signal.SIGKILL


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    number, weights = torch.load(folder / "weights.pt")
    assert number > 0
    found: dict[str, torch.Tensor] = weights
    return found


def kill_and_compare(tmp_path: Path, rounds: int, kills: int, seed: int) -> int:
    """How many times a site was killed; its ledger then held what was spent and at most one step more."""
    study = study_of(rounds)
    plan = plan_of(study)
    with sites(tmp_path / "undisturbed", rounds) as calm:
        calm.start()
        assert calm.ended() == 0
    secret = (tmp_path / "undisturbed" / "privacy.key").read_bytes()
    random, done, run = Random(seed), 0, 0
    while done < kills:
        run += 1
        folder = tmp_path / f"killed-{run}"
        with sites(folder, rounds) as site:
            key = folder / "privacy.key"
            key.write_bytes(secret)
            key.chmod(0o600)
            alive = True
            while alive and done < kills:
                alive = kill_somewhere(site, random)
                done += alive
                witnessed, recorded = site.witnessed, site.recorded
                assert witnessed <= recorded
                assert len(recorded - witnessed) <= 1
                spent, told = (
                    epsilon_of([plan.mechanism(len(part))], plan.delta) for part in (witnessed, recorded)
                )
                assert spent <= told <= plan.epsilon
            site.start()
            assert site.ended() == 0
            ledger = Ledger(folder / "ledger.jsonl")
            assert ledger.verify() == []
            assert len(site.recorded) == plan.total
            (account,) = ledger.privacy().studies.values()
            assert account.spent == plan.mechanisms()
        expected, found = weights_of(tmp_path / "undisturbed"), weights_of(folder)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    return done


def test_ten_kills(tmp_path: Path) -> None:
    assert kill_and_compare(tmp_path, rounds=6, kills=10, seed=5) == 10


@pytest.mark.e2e
@pytest.mark.timeout(7200)
def test_two_hundred_kills(tmp_path: Path) -> None:
    assert kill_and_compare(tmp_path, rounds=20, kills=200, seed=17) == 200
