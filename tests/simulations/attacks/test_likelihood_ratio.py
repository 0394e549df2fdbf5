"""The likelihood-ratio test against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from mmfed_simulations.attacks.likelihood_ratio import OWN_SPREAD_FROM, confidence, likelihood_ratio


def test_confidence_is_the_logit_of_the_probability() -> None:
    probability = np.array([0.01, 0.3, 0.5, 0.99, 1 - 1e-9])
    expected = np.log(probability) - np.log1p(-probability)
    np.testing.assert_allclose(confidence(-np.log(probability)), expected, rtol=1e-6)
    assert np.isfinite(confidence(np.array([0.0, 800.0]))).all()
    assert np.isnan(confidence(np.array([np.nan]))).all()


def planted(shadows: int, patients: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence of models, two units higher where the patient is inside; the target is the last."""
    draw = np.random.default_rng(5)
    inside = draw.permuted(np.arange(shadows + 1)[:, None] % 2 == np.zeros((1, patients)), axis=0)
    said = (
        draw.normal(size=(1, patients, 1))
        + 2.0 * inside[:, :, None]
        + draw.normal(size=(shadows + 1, patients, 1))
    )
    return said, inside, draw


def test_score_is_the_ratio_of_two_gaussians() -> None:
    said, inside, _ = planted(2 * OWN_SPREAD_FROM)
    score = likelihood_ratio(said[-1], said[:-1], inside[:-1])
    for patient in range(5):
        kinds = [said[:-1][mask[:, patient], patient, 0] for mask in (inside[:-1], ~inside[:-1])]
        member, other = (norm.logpdf(said[-1, patient, 0], kind.mean(), kind.std(ddof=1)) for kind in kinds)
        assert score[patient] == pytest.approx(member - other)
    assert score[inside[-1]].mean() > 0.5 > -0.5 > score[~inside[-1]].mean()


def test_few_shadows_share_one_deviation() -> None:
    said, inside, _ = planted(8)
    member, other = inside[:-1], ~inside[:-1]
    score = likelihood_ratio(said[-1], said[:-1], inside[:-1])
    values = said[:-1, :, 0]
    spread = []
    centre = []
    for mask in (member, other):
        means = np.array([values[mask[:, p], p].mean() for p in range(values.shape[1])])
        rest = sum(((values[mask[:, p], p] - means[p]) ** 2).sum() for p in range(values.shape[1]))
        spread.append(np.sqrt(rest / sum(mask[:, p].sum() - 1 for p in range(values.shape[1]))))
        centre.append(means)
    expected = norm.logpdf(said[-1, :, 0], centre[0], spread[0]) - norm.logpdf(
        said[-1, :, 0], centre[1], spread[1]
    )
    np.testing.assert_allclose(score, expected, rtol=1e-9)


def test_unlabelled_tasks_and_unknown_patients_are_left_out() -> None:
    said, inside, _ = planted(10)
    both = np.concatenate([said, np.full_like(said, np.nan)], axis=2)
    one = likelihood_ratio(said[-1], said[:-1], inside[:-1])
    np.testing.assert_allclose(likelihood_ratio(both[-1], both[:-1], inside[:-1]), one)
    never = inside[:-1].copy()
    never[:, 0] = False
    assert np.isnan(likelihood_ratio(said[-1], said[:-1], never)[0])
