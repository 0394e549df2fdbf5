"""Discrete-time hazards against numbers worked out by hand, and properties of the curves."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmfed_common.tasks import survival

BINS = (100.0, 300.0, 600.0)
HAZARDS = (0.1, 0.2, 0.5)


def _logit(*hazards: float) -> Tensor:
    return torch.tensor([[math.log(h / (1 - h)) for h in hazards]])


@pytest.mark.parametrize(
    ("time", "event", "expected"),
    [
        (50.0, 1.0, -math.log(0.1)),
        (100.0, 1.0, -math.log(0.1)),
        (100.1, 1.0, -math.log(0.9 * 0.2)),
        (600.0, 1.0, -math.log(0.9 * 0.8 * 0.5)),
        (50.0, 0.0, 0.0),
        (100.0, 0.0, -math.log(0.9)),
        (299.0, 0.0, -math.log(0.9)),
        (300.0, 0.0, -math.log(0.9 * 0.8)),
        (600.0, 0.0, -math.log(0.9 * 0.8 * 0.5)),
        (5000.0, 0.0, -math.log(0.9 * 0.8 * 0.5)),
        (5000.0, 1.0, -math.log(0.9 * 0.8 * 0.5)),
        (0.0, 1.0, -math.log(0.1)),
    ],
)
def test_loss_by_hand(time: float, event: float, expected: float) -> None:
    found = survival.hazard_loss(_logit(*HAZARDS), torch.tensor([time]), torch.tensor([event]), BINS)
    assert float(found) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("time", "event", "expected"),
    [
        (50.0, 0.0, -math.log(0.9) / 2),
        (100.0, 0.0, -math.log(0.9)),
        (250.0, 0.0, -math.log(0.9) - 0.75 * math.log(0.8)),
        (600.0, 0.0, -math.log(0.9 * 0.8 * 0.5)),
        (5000.0, 0.0, -math.log(0.9 * 0.8 * 0.5)),
        (0.0, 0.0, 0.0),
        (250.0, 1.0, -math.log(0.9 * 0.2)),
        (5000.0, 1.0, -math.log(0.9 * 0.8 * 0.5)),
    ],
)
def test_loss_to_the_day_by_hand(time: float, event: float, expected: float) -> None:
    logits = _logit(*HAZARDS)
    found = survival.hazard_loss(logits, torch.tensor([time]), torch.tensor([event]), BINS, "day")
    assert float(found) == pytest.approx(expected, abs=1e-5)
    if event == 0:
        alive = survival.survival_at(logits, BINS, (time,))
        assert float(found) == pytest.approx(-math.log(float(alive)), abs=1e-5)


@pytest.mark.parametrize(("censoring", "bias"), [("day", 0.0), ("bin", 0.05)])
def test_hazards_of_patients_who_leave_within_a_bin(censoring: Literal["bin", "day"], bias: float) -> None:
    """Everybody's hazard rate is 1/400 a day and most leave early: only to the day is it found again."""
    generator = torch.Generator().manual_seed(0)
    death = -400.0 * torch.log(torch.rand(20_000, generator=generator))
    leaves = 500.0 * torch.rand(20_000, generator=generator)
    time, event = torch.minimum(death, leaves), (death <= leaves).float()
    logits = torch.zeros(1, len(BINS), requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimiser.zero_grad()
        everyone = logits.expand(len(time), -1)
        loss = survival.hazard_loss(everyone, time, event, BINS, censoring).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(step)  # type: ignore[no-untyped-call]
    found = float(survival.survival_at(logits.detach(), BINS, (300.0,)))
    if bias:
        assert found < math.exp(-300 / 400) - bias
    else:
        assert found == pytest.approx(math.exp(-300 / 400), abs=0.01)


def test_curve_by_hand() -> None:
    found = survival.survival_curve(_logit(*HAZARDS))[0].tolist()
    assert found == pytest.approx([0.9, 0.72, 0.36], abs=1e-6)


def test_survival_at_horizons_by_hand() -> None:
    """Constant hazard rate within a bin: halfway through, the square root of what the bin leaves."""
    horizons = (50.0, 100.0, 200.0, 450.0, 600.0, 900.0)
    found = survival.survival_at(_logit(*HAZARDS), BINS, horizons)[0].tolist()
    halfway = [0.9**0.5, 0.9, 0.9 * 0.8**0.5, 0.72 * 0.5**0.5, 0.36, 0.36]
    assert found == pytest.approx(halfway, abs=1e-6)


def test_restricted_mean_by_hand() -> None:
    """Each bin contributes width × (survival at its start − at its end) / (−log of the share it leaves)."""
    widths, starts, shares = (100, 200, 300), (1.0, 0.9, 0.72), (0.9, 0.8, 0.5)
    terms = zip(widths, starts, shares, strict=True)
    expected = sum(w * s * (1 - share) / -math.log(share) for w, s, share in terms)
    assert float(survival.risk_score(_logit(*HAZARDS), BINS)) == pytest.approx(-expected, rel=1e-5)


def test_restricted_mean_is_the_area_under_the_curve() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    days = torch.arange(0.05, 600, 0.1, dtype=torch.float64)
    area = survival.survival_at(logits, BINS, days.tolist()).mean(dim=1) * 600
    torch.testing.assert_close(survival.restricted_mean_survival(logits, BINS), area, rtol=1e-5, atol=1e-3)


def test_nobody_dies_with_hazard_near_zero() -> None:
    logits = torch.full((1, 3), -40.0, requires_grad=True)
    days = survival.restricted_mean_survival(logits, BINS)
    days.sum().backward()
    assert days.item() == pytest.approx(600.0)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_empty() -> None:
    nobody = torch.zeros(0, 3)
    assert survival.hazard_loss(nobody, torch.zeros(0), torch.zeros(0), BINS).shape == (0,)
    assert survival.survival_at(nobody, BINS, (50.0,)).shape == (0, 1)
    assert survival.risk_score(nobody, BINS).shape == (0,)


@given(st.lists(st.floats(-8, 8), min_size=3, max_size=3), st.integers(0, 2))
def test_more_hazard_means_more_risk_and_less_survival(logits: list[float], which: int) -> None:
    low = torch.tensor([logits], dtype=torch.float64)
    high = low.clone()
    high[0, which] += 0.5
    curve = survival.survival_curve(low)[0]
    assert ((curve >= 0) & (curve <= 1)).all()
    assert (curve.diff() <= 0).all()
    assert survival.risk_score(high, BINS) > survival.risk_score(low, BINS)
    assert (survival.survival_curve(high) <= survival.survival_curve(low) + 1e-12).all()
