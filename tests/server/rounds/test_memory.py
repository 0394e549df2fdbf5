"""What the server holds in rounds is two models and a constant, whatever the number of sites.

A round holds the global weights, and beside them what is sent, or one site's update, or the aggregate.
Fedadam also holds its two moments. A commit takes no more than that, and neither does a resume.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest
from tests.conftest import ROOT

SMALL, LARGE = 32, 128
"""Megabytes of the models."""
ROOM = 0.25
"""How many models what is measured may be off: an array of 1/16 of a model is in memory a few times."""


@cache
def growth(sites: int, megabytes: int, strategy: str = "fedavg") -> float:
    """Most megabytes of rounds, their commits and a resume, beyond what was there without a model."""
    words = ["tests.server.rounds.peak_memory", str(sites), strategy, str(megabytes), "16"]
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, check=True, text=True
    )
    before, peak, _ = (int(word) for word in done.stdout.split()[-3:])
    return (peak - before) / 1e6


@pytest.mark.slow
def test_three_or_twenty_sites_need_the_same_memory() -> None:
    """Were a further site to cost a tenth of a model, 17 of them would cost five times what is allowed."""
    assert abs(growth(20, SMALL) - growth(3, SMALL)) < 0.3 * SMALL


@pytest.mark.e2e
@pytest.mark.parametrize(("strategy", "models"), [("fedavg", 2), ("fedadam", 4)])
def test_a_larger_model_needs_twice_its_growth(strategy: str, models: int) -> None:
    """The slope over the model's size, in which no constant hides."""
    slope = (growth(3, LARGE, strategy) - growth(3, SMALL, strategy)) / (LARGE - SMALL)
    assert slope < models + ROOM
