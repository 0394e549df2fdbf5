"""What may run, from what lies on the disk: everything that must be there, and everything that forbids it."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from tests.client.joined_home import JoinedHome, one_column_study

from mmfed_client.approval import approve, revoke
from mmfed_client.status import State
from mmfed_client.supervisor.offers import Answer
from mmfed_client.supervisor.permission import Permission
from mmfed_common.errors import NetworkError
from mmfed_common.names import utc_now
from mmfed_common.signed_study import SignedStudy
from mmfed_common.signing import CoordinatorKey

STUDY = one_column_study()


@pytest.fixture
def site(tmp_path: Path) -> JoinedHome:
    """A site that has joined."""
    return JoinedHome(tmp_path)


def allowed(site: JoinedHome) -> Permission:
    """Everything is in order: a study is offered and approved."""
    permission = Permission(site.home)
    signed = site.sign(STUDY)
    permission.offered(Answer(signed))
    approve(site.home, site.ledger, signed, "Ada")
    assert permission.decide().study is not None
    return permission


def refused(permission: Permission) -> tuple[State, str]:
    """State and code of a decision against."""
    decision = permission.decide()
    assert decision.study is None
    return decision.state, decision.code


def test_the_way_to_a_study(site: JoinedHome) -> None:
    permission = Permission(site.home)
    assert refused(permission) == (State.waiting_for_study, "MMF-114")
    permission.offered(Answer(error=NetworkError("MMF-428", "no route")))
    assert refused(permission) == (State.waiting_for_study, "MMF-428")
    signed = site.sign(STUDY)
    permission.offered(Answer(signed))
    assert refused(permission) == (State.waiting_for_approval, "MMF-332")
    assert site.home.study_file(STUDY.hash).is_file()
    approve(site.home, site.ledger, signed, "Ada")
    decision = permission.decide()
    assert decision.study is not None
    assert (decision.study.hash, decision.name) == (STUDY.hash, "one-column")
    revoke(site.ledger, "Ada")
    assert refused(permission) == (State.waiting_for_approval, "MMF-332")


def test_without_a_server_the_study_that_was_approved_last_stands(site: JoinedHome) -> None:
    allowed(site)
    fresh = Permission(site.home)
    fresh.offered(Answer(error=NetworkError("MMF-428", "no route")))
    decision = fresh.decide()
    assert decision.study is not None
    assert decision.study_hash == STUDY.hash
    fresh.offered(Answer(site.sign(one_column_study("another"))))
    assert refused(fresh) == (State.waiting_for_approval, "MMF-332")
    fresh.offered(Answer(error=NetworkError("MMF-428", "no route")))
    assert refused(fresh) == (State.waiting_for_approval, "MMF-332")
    fresh.offered(Answer(None))
    assert fresh.decide().study is not None


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda site: site.policy("most_rounds = 2"), "MMF-326"),
        (lambda site: site.policy('strategies = ["fedadam"]'), "MMF-325"),
        (lambda site: site.policy("days = []"), "MMF-327"),
        (lambda site: site.policy("no_such_key = 1"), "MMF-321"),
        (lambda site: site.home.policy_file.unlink(), "MMF-320"),
        (lambda site: site.home.key_file.unlink(), "MMF-411"),
        (lambda site: site.home.key_file.chmod(0o644), "MMF-412"),
        (lambda site: site.home.coordinator_file.unlink(), "MMF-423"),
        (
            lambda site: site.home.coordinator_file.write_text(CoordinatorKey.generate().public.hex()),
            "MMF-414",
        ),
        (lambda site: site.configure(""), "MMF-113"),
        (
            lambda site: site.home.ledger_file.write_bytes(site.home.ledger_file.read_bytes()[:9] + b"x\n"),
            "MMF-310",
        ),
    ],
)
def test_whatever_is_spoilt_is_noticed_at_once_and_named(site: JoinedHome, spoil: object, code: str) -> None:
    permission = allowed(site)
    assert callable(spoil)
    spoil(site)
    assert refused(permission) == (State.blocked, code)


def test_a_repaired_site_goes_on_without_a_restart(site: JoinedHome) -> None:
    permission = allowed(site)
    site.policy("most_rounds = 2")
    assert refused(permission)[1] == "MMF-326"
    site.policy()
    assert permission.decide().study is not None


def test_time_alone_ends_a_permission(site: JoinedHome) -> None:
    permission = allowed(site)
    later = permission.decide(utc_now() + timedelta(days=31))
    assert (later.study, later.state, later.code) == (None, State.blocked, "MMF-415")


def test_a_forged_offer_is_refused_and_recorded_once_without_its_text(site: JoinedHome) -> None:
    permission = Permission(site.home)
    forged = SignedStudy.sign(STUDY, CoordinatorKey.generate(), "lungs", 30)
    permission.offered(Answer(forged))
    for _ in range(3):
        permission.offered(Answer(forged))
        assert refused(permission) == (State.blocked, "MMF-414")
    entries = list(site.ledger.entries())
    assert [(entry.kind, entry.body["code"]) for entry in entries] == [("refusal", "MMF-414")]
    assert not site.home.study_file(forged.hash).exists()


def test_a_new_key_or_address_is_grounds_to_begin_again(site: JoinedHome) -> None:
    permission = allowed(site)
    before = permission.decide().grounds
    assert permission.decide().grounds == before
    os.utime(site.home.key_file, ns=(1, 1))
    assert permission.decide().grounds != before


def test_the_key_s_passphrase_is_needed(tmp_path: Path) -> None:
    site = JoinedHome(tmp_path, passphrase="correct horse")
    assert refused(Permission(site.home, "wrong"))[1] == "MMF-413"
    assert refused(Permission(site.home, "correct horse"))[1] == "MMF-114"


def test_ever_new_studies_do_not_fill_the_disk_and_approved_ones_stay(
    site: JoinedHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmfed_client.signed_files.MOST_KEPT", 3)
    permission = allowed(site)
    for number in range(6):
        permission.offered(Answer(site.sign(one_column_study(f"study-{number}"))))
        assert refused(permission) == (State.waiting_for_approval, "MMF-332")
    assert len(list(site.home.studies.glob("*.json"))) == 4
    permission.offered(Answer(error=NetworkError("MMF-428", "no route")))
    permission.offered(Answer(None))
    assert permission.decide().study_hash == STUDY.hash
