"""The signed study: every change breaks it, and what is opened is what was signed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfed_common.errors import MmfedError, NetworkError, PrivacyError, StudyError
from mmfed_common.signed_study import SignedStudy
from mmfed_common.signing import CoordinatorKey
from mmfed_common.study import Study

KEY = CoordinatorKey.generate()
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
STUDY = Study.from_content(
    {
        "study": {"name": "toy", "seed": 7, "description": "µ ≤ 5 \u2028 \U0001f9ec"},
        "contract": {
            "demographics": {"age": {"kind": "number", "unit": "years"}},
            "survival": {"bins": [365, 730, 1826.25]},
        },
        "training": {"stages": [{"level": "clinical", "rounds": 3}]},
    }
)
SIGNED = SignedStudy.sign(STUDY, KEY, "lung", 30, NOW)


def code(action: Callable[[], object]) -> str:
    with pytest.raises(MmfedError) as error:
        action()
    return error.value.code


def opened(signed: SignedStudy, now: datetime = NOW, federation: str = "lung") -> Study:
    return signed.open(KEY.public, federation, now)


def signed_as(**changes: Any) -> SignedStudy:
    """What a coordinator who does not use this code could sign."""
    changed = SIGNED.model_copy(update=changes)
    return changed.model_copy(update={"signature": KEY.sign(changed.signed_bytes()).hex()})


def test_what_is_opened_is_what_was_signed() -> None:
    read = SignedStudy.from_json(SIGNED.to_json())
    assert read == SIGNED
    assert opened(read) == STUDY
    assert opened(read).hash == read.hash == STUDY.hash


def test_the_fields_are_what_the_format_says() -> None:
    content = json.loads(SIGNED.to_json())
    assert content["document"] == STUDY.canonical().decode()
    assert (content["issued"], content["expires"]) == ("2026-05-01T12:00:00Z", "2026-05-31T12:00:00Z")
    assert content["software"].startswith("mmfed ")


@pytest.mark.parametrize(
    "changes",
    [
        {"federation": "liver"},
        {"document": SIGNED.document.replace('"seed":7', '"seed":8')},
        {"document": SIGNED.document + " "},
        {"document": SIGNED.document.replace('"rounds":3', '"rounds":300')},
        {"issued": "2026-04-01T12:00:00Z"},
        {"expires": "2036-05-31T12:00:00Z"},
        {"software": "mmfed 9"},
        {"coordinator_fingerprint": CoordinatorKey.generate().public.fingerprint},
        {"signature": "0" * 128},
        {"signature": CoordinatorKey.generate().sign(SIGNED.signed_bytes()).hex()},
        {"signature": KEY.sign(SIGNED.document.encode()).hex()},
    ],
)
def test_a_change_after_signing_is_forgery(changes: dict[str, str]) -> None:
    assert code(lambda: opened(SIGNED.model_copy(update=changes))) == "MMF-414"


@given(st.integers(min_value=0, max_value=len(SIGNED.to_json().encode()) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_means_the_same(at: int, flip: int) -> None:
    content = bytearray(SIGNED.to_json().encode())
    content[at] ^= flip
    try:
        read = SignedStudy.from_json(bytes(content))
        study = opened(read)
    except NetworkError as error:
        assert error.code in ("MMF-414", "MMF-418")  # noqa: PT017 - either refusal is right
    else:
        assert (read, study) == (SIGNED, STUDY)  # only white space between the fields


def test_another_coordinators_study_is_refused() -> None:
    other = CoordinatorKey.generate()
    assert code(lambda: opened(SignedStudy.sign(STUDY, other, "lung", 30, NOW))) == "MMF-414"
    posing = SignedStudy.sign(STUDY, other, "lung", 30, NOW).model_copy(
        update={"coordinator_fingerprint": KEY.public.fingerprint}
    )
    assert code(lambda: opened(posing)) == "MMF-414"


def test_another_federations_study_is_refused() -> None:
    assert code(lambda: opened(SIGNED, federation="liver")) == "MMF-417"


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (timedelta(days=30), "MMF-415"),
        (timedelta(days=30, seconds=-1), ""),
        (timedelta(minutes=-10), ""),
        (timedelta(minutes=-10, seconds=-1), "MMF-415"),
        (timedelta(hours=-1), "MMF-415"),
        (timedelta(hours=1), ""),
    ],
)
def test_dates_are_kept(offset: timedelta, expected: str) -> None:
    if expected:
        assert code(lambda: opened(SIGNED, NOW + offset)) == expected
    else:
        assert opened(SIGNED, NOW + offset) == STUDY


@pytest.mark.parametrize("days", [0, -1, 3661])
def test_the_term_is_bounded(days: int) -> None:
    assert code(lambda: SignedStudy.sign(STUDY, KEY, "lung", days, NOW)) == "MMF-415"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("", "MMF-418"),
        ("[" * 100_000, "MMF-418"),
        (SIGNED.document.replace(",", ", ", 1), "MMF-418"),
        (SIGNED.document.replace('"seed":7', '"seed":7.0'), "MMF-501"),
        (SIGNED.document.replace('"dropout":0.1', '"dropout":NaN'), "MMF-418"),
        (SIGNED.document.replace('"seed":7', '"seed":7,"seed":7'), "MMF-418"),
        (SIGNED.document.replace('"seed":7', '"seed":7,"code":"import os"'), "MMF-501"),
        (SIGNED.document.replace('"batch":32,', ""), "MMF-418"),
        (SIGNED.document.replace('"mode":"none"', '"mode":"dp"'), "MMF-501"),
        ("[]", "MMF-501"),
        ("7", "MMF-501"),
    ],
)
def test_a_badly_formed_document_is_refused_although_it_is_signed(document: str, expected: str) -> None:
    assert document != SIGNED.document
    assert code(lambda: opened(signed_as(document=document))) in (expected, "MMF-418")


def test_other_software_is_named_when_the_document_cannot_be_read() -> None:
    newer = signed_as(
        document=SIGNED.document.replace('"seed":7', '"seed":7,"new":1'),
        software="mmfed 99.0; flwr 1.41.0; torch 2.9.0; python 3.11",
    )
    with pytest.raises(StudyError, match=r"mmfed is 99\.0 there"):
        opened(newer)


@pytest.mark.parametrize("dates", [{"issued": "2026-13-01T00:00:00Z"}, {"expires": "2026-02-30T00:00:00Z"}])
def test_dates_that_do_not_exist_are_refused(dates: dict[str, str]) -> None:
    assert code(lambda: opened(signed_as(**dates))) == "MMF-418"


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": "1"},
        {"format": True},
        {"extra": 1},
        {"federation": "../x"},
        {"federation": "lung\n"},
        {"issued": "yesterday"},
        {"signature": "AB" * 64},
        {"signature": ["0"] * 128},
        {"document": {"study": {}}},
        {"document": None},
    ],
)
def test_another_form_is_refused(changes: dict[str, Any]) -> None:
    content = {**json.loads(SIGNED.to_json()), **changes}
    assert code(lambda: SignedStudy.from_json(json.dumps(content))) == "MMF-418"


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_whatever_comes_is_refused_with_a_code(content: bytes | str) -> None:
    assert code(lambda: SignedStudy.from_json(content)) == "MMF-418"


def test_the_signature_can_be_checked_from_the_documentation_alone() -> None:
    content = json.loads(SIGNED.to_json())
    signature = bytes.fromhex(content.pop("signature"))
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    KEY.key.public_key().verify(signature, b"mmfed study 1\n" + text.encode())
    assert hashlib.sha256(content["document"].encode()).hexdigest() == STUDY.hash


def test_a_private_study_that_no_guarantee_covers_is_refused_with_its_own_code() -> None:
    amounts = SIGNED.document.replace('"delta":null', '"delta":0.001').replace(
        '"epsilon":null', '"epsilon":3.0'
    )
    document = amounts.replace('"mode":"none"', '"mode":"dp"')
    with pytest.raises(PrivacyError) as caught:
        opened(signed_as(document=document))
    assert caught.value.code == "MMF-305"
