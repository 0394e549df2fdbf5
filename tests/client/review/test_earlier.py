"""What left before is told to whoever reads what there is to spend, or what a new study would let leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flwr.app import Message
from tests.client.small_home import OPEN, SmallHome, context, local_site, question, weights_of
from tests.server.faulty_federation import reference_contract
from tests.simulations.small_federation import small_study

from mmfed_client.budget import outlook, spending_of
from mmfed_client.policy import Policy
from mmfed_client.review import describe
from mmfed_client.review.earlier import earlier_sums
from mmfed_common import messages as m
from mmfed_common.study import Study

PRIVACY = {"mode": "dp", "epsilon": 3.0, "delta": 1e-3}
POLICY = f"{OPEN}largest_delta = 0.01\n"


def whole_batch(**sections: Any) -> Study:
    return small_study(contract=reference_contract(), training={"batch": 0, "local_epochs": 1}, **sections)


def ask(small: SmallHome, study: Study, kind: str, number: int = 1) -> Message:
    site = local_site(study, 60)
    records = {} if kind == m.MOMENTS else weights_of(site)
    return small.app(site)(question(kind, study.hash, number, **records), context())


def test_studies_without_privacy_stand_beside_what_was_spent(tmp_path: Path) -> None:
    small = SmallHome.make(tmp_path, POLICY)
    private, plain = whole_batch(privacy=PRIVACY), whole_batch()
    small.approve(private)
    for kind in (m.TRAIN, m.EVALUATE_HELD_OUT):
        assert not ask(small, private, kind).has_error()
    policy = small.guardian().policy()
    before = spending_of(small.ledger, policy)
    assert (before.unpaid, "no ε holds" in " ".join(before.sentences())) == ((), False)

    small.approve(plain)
    assert ask(small, plain, m.TRAIN, 99).has_error()
    assert spending_of(small.ledger, policy).unpaid == ()
    assert not ask(small, plain, m.TRAIN).has_error()
    after = spending_of(small.ledger, policy)
    assert after.unpaid == (f"small {plain.hash[:12]}",)
    assert after.as_dict()["without_privacy"] == list(after.unpaid)
    text = " ".join(after.sentences())
    assert f"1 study without differential privacy took something from this site: {after.unpaid[0]}" in text
    assert "All studies with differential privacy of this site together" in text
    assert "no ε holds" in outlook(small.ledger, private, policy)


def test_a_loss_over_held_out_patients_is_something_that_left(tmp_path: Path) -> None:
    small = SmallHome.make(tmp_path, POLICY)
    study = whole_batch()
    small.approve(study)
    assert not ask(small, study, m.EVALUATE_HELD_OUT).has_error()
    assert spending_of(small.ledger, None).unpaid == (f"small {study.hash[:12]}",)


def test_sums_that_left_for_another_study_are_a_warning(tmp_path: Path) -> None:
    small = SmallHome.make(tmp_path, POLICY)
    first = small_study()
    second = first.with_changes(study={"version": "2"}, evaluation={"fraction": 0.21})
    small.approve(first)
    assert not list(earlier_sums(small.ledger, second))
    assert not ask(small, first, m.MOMENTS, 0).has_error()
    (sentence,) = earlier_sums(small.ledger, second)
    assert f"small {first.hash[:12]}" in sentence
    assert not list(earlier_sums(small.ledger, first))
    assert not list(earlier_sums(small.ledger, whole_batch()))


def test_losses_for_early_stopping_are_named_where_they_leave() -> None:
    early = {"training": {"validation_fraction": 0.3, "patience": 2}}
    (told,) = [s.text for s in describe(small_study(**early)).statements if "leaves out" in s.text]
    assert "30% of the training patients" in told
    assert "at least 3; never under masks" in told
    kept_back = describe(small_study(**early), policy=Policy.from_text("evaluation = false\n")).statements
    assert not [s for s in kept_back if "leaves out" in s.text]
