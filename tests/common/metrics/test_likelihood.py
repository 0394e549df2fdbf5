"""The likelihood from a survival curve is the model's own at the edges of its bins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmfed_common.metrics import survival_log_loss
from mmfed_common.metrics.likelihood import SMALLEST
from mmfed_common.tasks.survival import hazard_loss, survival_curve

BINS = [100.0, 200.0, 400.0, 800.0]


def test_it_equals_the_loss_that_is_trained() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    time = torch.rand(60, generator=generator) * 1200
    time[:8] = torch.tensor([100.0, 100.0, 200.0, 200.0, 800.0, 800.0, 0.0, 0.0])
    event = (torch.arange(60) % 2).float()
    expected = hazard_loss(logits, time, event, BINS).numpy()
    found = survival_log_loss(
        survival_curve(logits).numpy(),
        np.array(BINS),
        time.double().numpy(),
        event.numpy() == 1,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_one_patient_cannot_decide_a_mean() -> None:
    certain = np.array([[1.0, 1.0]])
    found = survival_log_loss(certain, np.array([100.0, 200.0]), np.array([50.0]), np.array([True]))
    assert found[0] == pytest.approx(-np.log(SMALLEST))
