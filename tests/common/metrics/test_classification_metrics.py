"""Response and toxicity metrics: equal to scikit-learn where both define a value."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from mmfed_common.metrics import bootstrap_counts, measure_labels, measure_response


def _draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, n)
    logits = random.normal(size=(n, 3)).round(1)
    logits[np.arange(n), truth] += 0.7
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probability, truth


@pytest.mark.parametrize("seed", range(5))
def test_response_equals_scikit_learn(seed: int) -> None:
    probability, truth = _draw(90, seed)
    measured = measure_response(probability, truth)
    guess = probability.argmax(axis=1)
    assert measured["accuracy"].value == pytest.approx(accuracy_score(truth, guess))
    assert measured["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(truth, guess))
    expected = roc_auc_score(truth, probability, multi_class="ovr", average="macro")
    assert measured["auroc"].value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "auroc"])
def test_resampled_form_equals_torchmetrics_on_the_repeated_patients(name: str) -> None:
    probability, truth = _draw(60, 11)
    counts = bootstrap_counts(60, 10, 4)
    fast = measure_response(probability, truth)[name].resampled(counts)
    for row, value in zip(counts, fast, strict=True):
        again = np.repeat(np.arange(60), row.astype(int))
        assert value == pytest.approx(
            measure_response(probability[again], truth[again])[name].value, abs=1e-6
        )


def test_a_class_that_nobody_has_does_not_count() -> None:
    probability = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    truth = np.array([0, 0, 1])
    measured = measure_response(probability, truth)
    assert measured["balanced_accuracy"].value == pytest.approx((0.5 + 1.0) / 2)
    alone = measure_response(probability, np.array([1, 1, 1]))
    assert not alone["auroc"].defined


def test_labels_are_scored_where_they_are_known() -> None:
    random = np.random.default_rng(0)
    truth = random.random((50, 3)) < 0.4
    known = random.random((50, 3)) < 0.8
    known[:, 2] = False
    probability = random.random((50, 3))
    measured = measure_labels(probability, truth, known)["auroc_macro"]
    each = [roc_auc_score(truth[known[:, k], k], probability[known[:, k], k]) for k in (0, 1)]
    assert measured.value == pytest.approx(np.mean(each), abs=1e-6)
    assert measured.events == int(truth[known].sum())
    assert measured.resampled(np.ones((1, 50)))[0] == pytest.approx(measured.value, abs=1e-6)


def test_labels_without_both_outcomes_have_no_value() -> None:
    measured = measure_labels(np.full((4, 1), 0.5), np.zeros((4, 1), bool), np.ones((4, 1), bool))
    assert not measured["auroc_macro"].defined
