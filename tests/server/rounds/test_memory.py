"""What the server holds in a round does not grow with the number of sites."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.conftest import ROOT

MODEL = 64_000_000


def growth(sites: int) -> float:
    """Peak memory of a round over what was there before it, in models."""
    command = [sys.executable, "-m", "tests.server.rounds.peak_memory", str(sites), "fedavg"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    before, peak, accepted = (int(word) for word in done.stdout.split()[-3:])
    assert accepted == sites
    return (peak - before) / MODEL


@pytest.mark.slow
def test_twelve_sites_need_no_more_than_two_models_beyond_three() -> None:
    assert growth(12) < growth(3) + 2.0
