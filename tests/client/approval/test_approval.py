"""Approval: the exact document, by named people, until it ends or is withdrawn."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from tests.client.small_home import NOON, OPEN, SmallHome
from tests.simulations.small_federation import small_study

from mmfed_client.approval import (
    approve,
    approved,
    last_approved,
    record_refusal,
    revoke,
    state_of,
    verify_offer,
)
from mmfed_client.approval.decisions import MOST_REFUSALS_A_DAY
from mmfed_client.ledger import Ledger
from mmfed_common.errors import MmfedError, NetworkError

STUDY = small_study()
OTHER = small_study(study={"name": "other"})


@pytest.fixture
def small(tmp_path: Path) -> SmallHome:
    return SmallHome.make(tmp_path)


def test_nothing_is_approved_at_first(small: SmallHome) -> None:
    assert not approved(small.ledger, STUDY.hash, NOON)
    assert last_approved(small.ledger) is None


def test_an_approval_is_of_one_document_only(small: SmallHome) -> None:
    entry = approve(small.home, small.ledger, small.signed(STUDY), " Ada  Lovelace ", now=NOON)
    assert (entry.kind, entry.body["person"], entry.body["study"]) == ("approval", "Ada Lovelace", STUDY.hash)
    assert entry.body["account"]
    for ledger in (small.ledger, Ledger(small.ledger.path)):
        assert approved(ledger, STUDY.hash, NOON)
        assert not approved(ledger, OTHER.hash, NOON)
        assert last_approved(ledger) == STUDY.hash


@pytest.mark.parametrize("named", [True, False])
def test_a_withdrawal_acts_until_it_is_approved_again(small: SmallHome, named: bool) -> None:
    small.approve(STUDY)
    revoke(small.ledger, "Ada", STUDY.hash if named else None, NOON)
    assert not approved(small.ledger, STUDY.hash, NOON)
    assert last_approved(small.ledger) == STUDY.hash
    small.approve(STUDY)
    assert approved(small.ledger, STUDY.hash, NOON)


def test_withdrawing_another_study_changes_nothing(small: SmallHome) -> None:
    small.approve(STUDY)
    revoke(small.ledger, "Ada", OTHER.hash, NOON)
    assert approved(small.ledger, STUDY.hash, NOON)


def test_an_approval_ends_when_the_document_does(small: SmallHome) -> None:
    small.approve(STUDY)
    assert approved(small.ledger, STUDY.hash, NOON + timedelta(days=30, seconds=-1))
    assert not approved(small.ledger, STUDY.hash, NOON + timedelta(days=30))


def test_two_people_are_two(small: SmallHome) -> None:
    small.policy(f"{OPEN}two_person = true\n")
    signed = small.signed(STUDY)
    assert not approve(small.home, small.ledger, signed, "Ada", now=NOON).body["complete"]
    assert not approved(small.ledger, STUDY.hash, NOON, people=2)
    for same in ("Ada", "ADA ", "Ａｄａ"):
        with pytest.raises(MmfedError) as caught:
            approve(small.home, small.ledger, signed, same, now=NOON)
        assert caught.value.code == "MMF-335"
    assert last_approved(small.ledger) is None
    assert approve(small.home, small.ledger, signed, "Grace", now=NOON).body["complete"]
    assert approved(small.ledger, STUDY.hash, NOON, people=2)
    assert state_of(small.ledger, STUDY.hash, 2).people == ("Ada", "Grace")


def test_what_two_had_to_approve_is_not_approved_by_one_after_the_policy_is_eased(small: SmallHome) -> None:
    small.policy(f"{OPEN}two_person = true\n")
    approve(small.home, small.ledger, small.signed(STUDY), "Ada", now=NOON)
    assert not approved(small.ledger, STUDY.hash, NOON, people=1)


def test_two_people_do_not_count_over_a_withdrawal(small: SmallHome) -> None:
    small.policy(f"{OPEN}two_person = true\n")
    approve(small.home, small.ledger, small.signed(STUDY), "Ada", now=NOON)
    revoke(small.ledger, "Ada", STUDY.hash)
    approve(small.home, small.ledger, small.signed(STUDY), "Grace", now=NOON)
    assert not approved(small.ledger, STUDY.hash, NOON, people=2)


@pytest.mark.parametrize("name", ["", "   ", "a" * 101, "Ada\x1b[2J", "Ada\u202egnol"])
def test_names_that_cannot_be_read_are_refused(small: SmallHome, name: str) -> None:
    with pytest.raises(MmfedError) as caught:
        approve(small.home, small.ledger, small.signed(STUDY), name, now=NOON)
    assert caught.value.code == "MMF-336"


def test_what_the_policy_refuses_cannot_be_approved(small: SmallHome) -> None:
    small.policy("most_rounds = 1\n")
    with pytest.raises(MmfedError) as caught:
        approve(small.home, small.ledger, small.signed(STUDY), "Ada", now=NOON)
    assert caught.value.code == "MMF-322"
    assert all(code in caught.value.what for code in ("MMF-326", "MMF-328"))
    assert small.kinds() == []


def test_a_study_may_be_approved_by_day_and_run_by_night(small: SmallHome) -> None:
    small.policy(f'{OPEN}hours = "01:00-01:01"\n')
    assert verify_offer(small.home, small.signed(STUDY), now=NOON) == STUDY


def test_a_refusal_is_recorded_once_and_holds_no_text_of_the_document(small: SmallHome) -> None:
    error = NetworkError("MMF-414", "it says <script>")
    assert record_refusal(small.ledger, STUDY.hash, error, NOON) is not None
    assert record_refusal(small.ledger, STUDY.hash, error, NOON) is None
    assert record_refusal(small.ledger, "../../etc", error, NOON) is not None
    assert b"script" not in small.ledger.path.read_bytes()
    assert b"etc" not in small.ledger.path.read_bytes()


def test_nobody_can_fill_the_disk_with_refusals(small: SmallHome) -> None:
    error = NetworkError("MMF-414", "forged")
    for number in range(3 * MOST_REFUSALS_A_DAY):
        record_refusal(small.ledger, f"{number:064x}", error, NOON)
    assert small.ledger.head.length == MOST_REFUSALS_A_DAY
    assert record_refusal(small.ledger, "f" * 64, error, NOON + timedelta(days=2)) is not None
