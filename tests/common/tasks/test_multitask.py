"""Losses per patient: golden numbers, missing labels, task weights, and the removal test."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmfed_common.model import Predictions
from mmfed_common.patients import Outcomes
from mmfed_common.tasks import multitask, response, toxicity

MODEL: Any = SimpleNamespace(bins=(100.0, 300.0), censoring="bin")


def _example(count: int = 8) -> tuple[Predictions, Outcomes]:
    generator = torch.Generator().manual_seed(4)
    predictions = Predictions(
        hazard_logits=torch.randn(count, 2, generator=generator),
        response_logits=torch.randn(count, 3, generator=generator),
        toxicity_logits=torch.randn(count, 2, generator=generator),
        log_variances=torch.tensor([[0.4, -0.3, 0.2]]).expand(count, 3),
    )
    known = torch.rand(count, 2, generator=generator) > 0.4
    outcomes = Outcomes(
        time_days=torch.rand(count, generator=generator) * 400,
        event=(torch.rand(count, generator=generator) > 0.5).float(),
        survival_known=torch.rand(count, generator=generator) > 0.4,
        response=torch.randint(-1, 3, (count,), generator=generator),
        toxicity=(torch.rand(count, 2, generator=generator) > 0.5).float(),
        toxicity_known=known,
    )
    return predictions, outcomes


def test_response_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(2.0), 0.0], [5.0, 0.0, 0.0]])
    found = response.loss(logits, torch.tensor([1, -1]))
    assert found.tolist() == pytest.approx([math.log(2.0), 0.0])
    assert response.probabilities(logits)[0].tolist() == pytest.approx([0.25, 0.5, 0.25])


def test_toxicity_by_hand() -> None:
    """Probabilities 3/4 and 1/2; the unknown label counts for nothing, the divisor stays 2."""
    logits = torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), 0.0]])
    known = torch.tensor([[True, True], [True, False]])
    found = toxicity.loss(logits, torch.tensor([[1.0, 0.0], [0.0, math.nan]]), known)
    expected = [(-math.log(0.75) - math.log(0.5)) / 2, -math.log(0.25) / 2]
    assert found.tolist() == pytest.approx(expected)
    assert toxicity.probabilities(logits)[0].tolist() == pytest.approx([0.75, 0.5])


def test_weighted_sum_by_hand() -> None:
    predictions, outcomes = _example(6)
    plain = multitask.task_losses(MODEL, predictions, outcomes)
    expected = torch.zeros(6)
    for log_variance, (cost, known) in zip((0.4, -0.3, 0.2), plain.values(), strict=True):
        for patient in range(6):
            if known[patient]:
                expected[patient] += math.exp(-log_variance) * cost[patient] + log_variance / 2
    torch.testing.assert_close(multitask.patient_losses(MODEL, predictions, outcomes), expected)


def test_one_task_has_weight_one() -> None:
    predictions, outcomes = _example()
    alone = Predictions(hazard_logits=predictions.hazard_logits)
    cost, _ = multitask.task_losses(MODEL, alone, outcomes)["survival"]
    assert torch.equal(multitask.patient_losses(MODEL, alone, outcomes), cost)


def test_missing_labels_have_exactly_no_gradient() -> None:
    predictions, outcomes = _example()
    outcomes = replace(outcomes, time_days=torch.where(outcomes.survival_known, outcomes.time_days, math.nan))
    fields = ("hazard_logits", "response_logits", "toxicity_logits", "log_variances")
    leaves = [getattr(predictions, name).clone().requires_grad_() for name in fields]
    losses = multitask.patient_losses(MODEL, Predictions(*leaves), outcomes)
    assert torch.isfinite(losses).all()
    losses.sum().backward()
    hazard, chosen, toxic, weights = (leaf.grad for leaf in leaves)
    labelled = [outcomes.survival_known, outcomes.response >= 0, outcomes.toxicity_known.any(dim=1)]
    for known, gradient in zip(labelled, (hazard, chosen, toxic), strict=True):
        assert (gradient[~known] == 0).all()
        assert not known.all()
    assert (toxic[~outcomes.toxicity_known] == 0).all()
    assert ((weights == 0) == ~torch.stack(labelled, dim=1)).all()


def test_a_patients_loss_does_not_change_when_others_are_removed() -> None:
    predictions, outcomes = _example()
    together = multitask.patient_losses(MODEL, predictions, outcomes)
    for keep in (torch.tensor([3]), torch.tensor([0, 5, 6]), torch.tensor([], dtype=torch.int64)):
        some = Predictions(*(getattr(predictions, name)[keep] for name in vars(predictions)))
        left = multitask.patient_losses(MODEL, some, outcomes.select(keep))
        torch.testing.assert_close(left, together[keep])
