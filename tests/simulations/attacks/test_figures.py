"""AUC and TPR at 1 % FPR against slow and obvious forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mmfed_simulations.attacks.figures import LOW_FPR, attack_figures, weighted_auc


def slow_tpr(score: np.ndarray, member: np.ndarray) -> float:
    """Try every threshold."""
    best = 0.0
    for threshold in [np.inf, *np.unique(score)]:
        if (score[~member] >= threshold).mean() <= LOW_FPR:
            best = max(best, float((score[member] >= threshold).mean()))
    return best


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=4, max_size=60))
def test_figures_are_those_of_the_obvious_form(pairs: list[tuple[int, bool]]) -> None:
    score = np.array([float(value) for value, _ in pairs])
    member = np.array([kind for _, kind in pairs])
    if not member.any() or member.all():
        with pytest.raises(ValueError, match="members and on others"):
            attack_figures(score, member, 0, 20)
        return
    found = attack_figures(score, member, 0, 20)
    assert found.auc.estimate == pytest.approx(roc_auc_score(member, score), abs=1e-12)
    assert found.tpr.estimate == pytest.approx(slow_tpr(score, member), abs=1e-12)
    assert (found.members, found.others) == (int(member.sum()), int((~member).sum()))


def test_weights_are_repetitions() -> None:
    draw = np.random.default_rng(1)
    score, member = draw.normal(size=40), draw.random(40) < 0.4
    counts = draw.integers(0, 3, 40)
    repeated = np.repeat(np.arange(40), counts)
    found = weighted_auc(score, member, counts[None].astype(float))
    assert found[0] == pytest.approx(roc_auc_score(member[repeated], score[repeated]))


def test_guessing_is_one_half_and_knowing_is_one() -> None:
    draw = np.random.default_rng(2)
    member = draw.random((10, 200)) < 0.5
    guess = attack_figures(draw.normal(size=member.shape), member, 0)
    assert guess.auc.low < 0.5 < guess.auc.high
    assert guess.tpr.estimate < 0.03
    known = attack_figures(member.astype(float), member, 0)
    assert (known.auc.estimate, known.auc.low, known.tpr.estimate) == (1.0, 1.0, 1.0)


def test_what_has_no_score_does_not_count() -> None:
    score = np.array([[2.0, np.nan, 1.0, 0.0]])
    member = np.array([[True, False, False, False]])
    found = attack_figures(score, member, 0, 50)
    assert (found.members, found.others, found.auc.estimate) == (1, 2, 1.0)


def test_a_patients_pairs_are_drawn_together() -> None:
    """Ten copies of each pair tell nothing new: the interval must stay as wide."""
    draw = np.random.default_rng(3)
    member = draw.random(60) < 0.5
    score = draw.normal(size=60) + 0.5 * member
    once, often = (
        attack_figures(score, member, 0),
        attack_figures(np.tile(score, (10, 1)), np.tile(member, (10, 1)), 0),
    )
    assert often.auc.high - often.auc.low == pytest.approx(once.auc.high - once.auc.low, rel=1e-9)
