"""Promise 10 rests on these: the held-out rule is a function of the study and the patient id."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfed_common.errors import StudyError
from mmfed_common.heldout import HeldOutRule, hash_folds

IDS = [f"patient-{i}" for i in range(2000)]


@given(st.permutations(IDS[:50]), st.integers(0, 2**31 - 1))
def test_order_and_company_do_not_matter(ids: list[str], seed: int) -> None:
    rule = HeldOutRule(seed, "hash", fraction=0.3)
    together = dict(zip(ids, rule.held_out(ids, "a"), strict=True))
    assert all(together[p] == rule.held_out([p], "another site")[0] for p in ids[:5])


def test_fraction_is_met() -> None:
    share = HeldOutRule(3, "hash", fraction=0.2).held_out(IDS, "a").mean()
    assert abs(share - 0.2) < 3 * np.sqrt(0.2 * 0.8 / len(IDS))


def test_folds_by_hash_hold_out_everybody_exactly_once() -> None:
    folds = hash_folds(3, IDS, 5)
    held = np.stack([HeldOutRule(3, "fold", folds=5, fold=k).held_out(IDS, "a", folds) for k in range(5)])
    assert (held.sum(axis=0) == 1).all()


def test_cohort_folds_are_taken_as_they_are() -> None:
    rule = HeldOutRule(3, "fold", folds=3, fold=2)
    assert rule.held_out(["a", "b", "c"], "s", [2, 0, 2]).tolist() == [True, False, True]


def test_a_site_without_folds_is_refused_by_name() -> None:
    with pytest.raises(StudyError) as caught:
        HeldOutRule(3, "fold", folds=3).held_out(IDS, "north")
    assert (caught.value.code, caught.value.where) == ("MMF-507", "north")


@pytest.mark.parametrize("folds", [[0, 1], [0, 1, 3], [0, 1, -1]])
def test_folds_that_do_not_fit_are_refused(folds: list[int]) -> None:
    with pytest.raises(StudyError) as caught:
        HeldOutRule(3, "fold", folds=3).held_out(["a", "b", "c"], "s", folds)
    assert caught.value.code == "MMF-507"


def test_site_rule() -> None:
    rule = HeldOutRule(3, "site", sites=("north",))
    assert rule.held_out(["a", "b"], "north").all()
    assert not rule.held_out(["a", "b"], "south").any()


def test_a_held_out_patient_is_refused_by_name() -> None:
    with pytest.raises(StudyError, match="patient b") as caught:
        HeldOutRule.refuse_held_out(np.array([False, True]), ["a", "b"])
    assert caught.value.code == "MMF-505"
