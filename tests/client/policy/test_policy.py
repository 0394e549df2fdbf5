"""The policy: strict to read, safe by default, and always the site's."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import ROOT
from tests.simulations.small_federation import small_study

from mmfed_client.policy import POLICY_TEMPLATE, Policy
from mmfed_common.errors import PrivacyError
from mmfed_common.study import Privacy, Study

STUDY = small_study()
FINGERPRINT = "ab12 cd34"


@pytest.fixture
def in_utc() -> Iterator[None]:
    """The site's clock runs in UTC for the test."""
    yield from zone("UTC")


@pytest.fixture
def in_tokyo() -> Iterator[None]:
    """The site's clock runs nine hours ahead."""
    yield from zone("JST-9")


def zone(name: str) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def code_of(text: str) -> str:
    with pytest.raises(PrivacyError) as caught:
        Policy.from_text(text)
    return caught.value.code


def codes(
    policy: str, study: Study = STUDY, patients: int | None = None, now: datetime | None = None
) -> list[str]:
    found = Policy.from_text(policy).violations(study, FINGERPRINT, patients, now)
    assert all(violation.what and violation.remedy for violation in found)
    return [violation.code for violation in found]


def test_an_empty_policy_is_the_safe_one() -> None:
    policy = Policy.from_text("")
    assert policy.require_privacy
    assert (policy.minimum_patients, policy.minimum_cell, policy.minimum_per_feature) == (5, 10, 5)
    assert codes("") == ["MMF-328"]


def test_the_template_allows_a_plain_study_and_names_every_key() -> None:
    assert codes(POLICY_TEMPLATE) == []
    named = set(re.findall(r"^(?:# )?(\w+) = ", POLICY_TEMPLATE, flags=re.MULTILINE))
    assert named == set(Policy.model_fields)


def test_the_templates_comments_are_the_defaults() -> None:
    shown = re.findall(r"^# (\w+ = .*?)(?:\s{2,}#.*)?$", POLICY_TEMPLATE, flags=re.MULTILINE)
    assert len(shown) == len(Policy.model_fields) - 1
    assert Policy.from_text("\n".join(shown)) == Policy()


def test_the_page_explains_every_key() -> None:
    page = (ROOT / "docs" / "policy.md").read_text()
    rows = {key for line in page.splitlines() if line.startswith("| `") for key in keys_of(line)}
    assert rows == set(Policy.model_fields)


def keys_of(row: str) -> list[str]:
    return re.findall(r"`(\w+)`", row.split("|")[1])


@pytest.mark.parametrize(
    "text",
    [
        "minimum_patient = 5",
        "minimum_patients = 0",
        'minimum_patients = "many"',
        "minimum_patients = 5.5",
        "minimum_patients = true",
        "gpu_memory = true",
        'metrics = ["loss"]',
        'metrics = ["num-examples", "ages"]',
        'strategies = ["theirs"]',
        'hours = "22-6"',
        'hours = "24:00-06:00"',
        'hours = "06:00-06:00"',
        'hours = "25:00-26:00"',
        'days = ["someday"]',
        "gpu_memory = 0",
        "gpu_memory = 1.5",
        "largest_update_megabytes = inf",
        "largest_update_megabytes = nan",
        "most_epsilon_per_study = inf",
        "largest_delta = 1.0",
        "require_privacy = 'no'",
        "require_privacy = 0",
        "two_person",
        "[updates]\nminimum_patients = 5",
    ],
)
def test_what_is_not_exactly_a_policy_is_refused(text: str) -> None:
    assert code_of(text) == "MMF-321"


def test_without_a_file_there_is_no_policy(tmp_path: Path) -> None:
    for path in (tmp_path / "policy.toml", tmp_path):
        with pytest.raises(PrivacyError) as caught:
            Policy.load(path)
        assert caught.value.code == "MMF-320"


OPEN = "require_privacy = false\n"


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ("most_rounds = 2", "MMF-326"),
        ('strategies = ["fedadam"]', "MMF-325"),
        ("strategies = []", "MMF-325"),
        ('coordinators = ["ffff"]', "MMF-324"),
        ("allow_moments = false", "MMF-330"),
    ],
)
def test_each_limit_has_its_code(policy: str, code: str) -> None:
    assert codes(OPEN + policy) == [code]


@pytest.mark.parametrize("listed", ["ab12 cd34", "AB12CD34", " ab12  cd34 "])
def test_a_fingerprint_may_be_written_as_people_do(listed: str) -> None:
    assert codes(f'{OPEN}coordinators = ["ffff", "{listed}"]') == []


@pytest.mark.parametrize(("patients", "found"), [(None, []), (5, []), (4, ["MMF-323"])])
def test_too_few_patients(patients: int | None, found: list[str]) -> None:
    assert codes(OPEN, patients=patients) == found


def test_every_reason_is_given_at_once() -> None:
    assert codes("most_rounds = 1\nstrategies = []") == ["MMF-325", "MMF-326", "MMF-328"]


@pytest.mark.parametrize(
    ("epsilon", "delta", "found"),
    [
        (3.0, 1e-6, []),
        (9.0, 1e-6, ["MMF-329"]),
        (0.0, 1e-6, ["MMF-329"]),
        (None, 1e-6, ["MMF-329"]),
        (float("inf"), 1e-6, ["MMF-329"]),
        (float("nan"), 1e-6, ["MMF-329"]),
        (3.0, 0.1, ["MMF-329"]),
        (3.0, None, ["MMF-329"]),
    ],
)
def test_weak_guarantees_are_refused(epsilon: float | None, delta: float | None, found: list[str]) -> None:
    """Also what no study can say that was read: the policy relies on nobody."""
    privacy = Privacy.model_construct(mode="dp", epsilon=epsilon, delta=delta)
    assert codes("", STUDY.model_copy(update={"privacy": privacy})) == found


@pytest.mark.usefixtures("in_utc")
@pytest.mark.parametrize(
    ("hours", "days", "moment", "is_open"),
    [
        ("08:00-18:00", '["wed"]', "2026-05-06T08:00", True),
        ("08:00-18:00", '["wed"]', "2026-05-06T18:00", False),
        ("08:00-18:00", '["tue"]', "2026-05-06T12:00", False),
        ("22:00-06:00", '["tue"]', "2026-05-06T05:59", True),
        ("22:00-06:00", '["tue"]', "2026-05-06T06:00", False),
        ("22:00-06:00", '["tue"]', "2026-05-06T22:00", False),
        ("22:00-06:00", '["sun"]', "2026-05-11T03:00", True),
        ("22:00-24:00", '["wed"]', "2026-05-06T23:59", True),
        ("22:00-24:00", '["wed"]', "2026-05-07T00:00", False),
        ("00:00-24:00", "[]", "2026-05-06T12:00", False),
    ],
)
def test_hours(hours: str, days: str, moment: str, is_open: bool) -> None:
    policy = Policy.from_text(f'hours = "{hours}"\ndays = {days}')
    assert policy.is_open(datetime.fromisoformat(moment).replace(tzinfo=UTC)) is is_open


@pytest.mark.usefixtures("in_tokyo")
def test_the_sites_own_clock_counts() -> None:
    night = datetime(2026, 5, 6, 14, tzinfo=UTC)
    assert codes(f'{OPEN}hours = "22:00-06:00"', now=night) == []
    assert codes(f'{OPEN}hours = "08:00-18:00"', now=night) == ["MMF-327"]


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 7 * 1440 - 1))
def test_a_window_and_its_rest_make_a_whole_day(begin: int, end: int, at: int) -> None:
    if begin == end:
        return
    moment = datetime(2026, 5, 4, tzinfo=UTC) + timedelta(minutes=at)
    inside, outside = (Policy(hours=f"{_clock(a)}-{_clock(b)}") for a, b in ((begin, end), (end, begin)))
    assert inside.is_open(moment) is not outside.is_open(moment)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
