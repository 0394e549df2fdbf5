"""Which features follow an outcome so closely that they must come from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from mmfed_client.cohort.leakage import followers


def test_an_exact_copy_any_monotone_form_and_its_reverse_are_found() -> None:
    time = np.random.default_rng(0).exponential(500, 100)
    features = np.stack([time, np.log(time), -(time**3), np.random.default_rng(1).normal(size=100)], axis=1)
    assert followers(features, time, False, 10).tolist() == [True, True, True, False]


@given(st.integers(0, 10_000), st.floats(0.0, 0.3), st.booleans())
def test_the_rule_is_spearman_or_auc_over_those_who_have_the_feature(
    seed: int, noise: float, binary: bool
) -> None:
    rng = np.random.default_rng(seed)
    outcome = rng.integers(0, 2, 80).astype(float) if binary else rng.exponential(1.0, 80)
    features = outcome[:, None] + noise * rng.normal(size=(80, 3)) * np.array([0.1, 0.5, 3.0])
    features[rng.random(features.shape) < 0.2] = np.nan
    found = followers(features, outcome, binary, 10)
    for column in range(3):
        have = ~np.isnan(features[:, column])
        x, y = features[have, column], outcome[have]
        if binary:
            expected = abs(roc_auc_score(y, x) - 0.5) >= 0.49
        else:
            expected = abs(spearmanr(x, y).statistic) >= 0.99
        assert found[column] == expected


@pytest.mark.parametrize("least", [10, 15])
def test_small_classes_prove_nothing(least: int) -> None:
    outcome = np.array([1.0] * (least - 1) + [0.0] * 50)
    assert not followers(outcome[:, None], outcome, True, least).any()
    outcome = np.array([1.0] * least + [0.0] * 50)
    assert followers(outcome[:, None], outcome, True, least).all()


def test_absent_and_constant_features_are_no_leaks() -> None:
    time = np.arange(50.0)
    features = np.stack([np.full(50, np.nan), np.ones(50)], axis=1)
    assert not followers(features, time, False, 10).any()
    assert not followers(features, (time > 20).astype(float), True, 10).any()
