"""Curves at the bins' edges, read at any time: the same numbers as the model's own functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmfed_common.tasks import survival
from mmfed_common.tasks.curves import (
    cumulative_hazard_at,
    hazard_logits,
    seen_within,
    survival_at_own_time,
    time_at,
)

BINS = [180.0, 365.25, 730.5, 1826.25]
LOGITS = torch.from_numpy(np.random.default_rng(0).normal(-2, 1, (40, len(BINS))))
CURVES = survival.survival_curve(LOGITS).numpy()


def test_own_time_is_what_the_model_says_at_that_time() -> None:
    time = np.random.default_rng(1).uniform(0, 2500, len(CURVES))
    by_model = survival.survival_at(LOGITS, BINS, tuple(time.tolist())).numpy()
    assert survival_at_own_time(CURVES, BINS, time) == pytest.approx(np.diag(by_model), rel=1e-9)
    several = cumulative_hazard_at(CURVES, BINS, np.broadcast_to(time[:7], (len(CURVES), 7)))
    assert np.exp(-several) == pytest.approx(by_model[:, :7], rel=1e-9)


def test_logits_come_back() -> None:
    assert hazard_logits(CURVES) == pytest.approx(LOGITS.numpy(), abs=1e-6)


@given(st.floats(0.02, 0.999))
def test_the_time_of_a_level_has_that_level(level: float) -> None:
    days = time_at(CURVES, BINS, level)
    reached = survival_at_own_time(CURVES, BINS, days)
    low = CURVES[:, -1] > level
    assert (days[low] == BINS[-1]).all()
    assert reached[~low] == pytest.approx(level, rel=1e-6)


def test_edges_of_what_can_be_asked() -> None:
    certain = np.array([[1.0, 1.0, 0.5, 0.0]])
    assert time_at(certain, BINS, 1.0).tolist() == [0.0]
    assert time_at(certain, BINS, 0.5).tolist() == [730.5]
    assert time_at(np.ones((1, 4)), BINS, 0.9).tolist() == [BINS[-1]]
    assert survival_at_own_time(certain, BINS, np.array([365.25])).tolist() == [1.0]
    assert np.isfinite(hazard_logits(certain)).all()


def test_a_death_after_the_last_edge_is_not_seen() -> None:
    time, event = np.array([100.0, 1826.25, 1900.0]), np.array([True, True, True])
    assert seen_within(BINS, time, event).tolist() == [True, True, False]
