"""Why a policy refuses a study: every reason at once, each with what to do about it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mmfed_common.error_codes import CODES
from mmfed_common.study import Study

if TYPE_CHECKING:
    from mmfed_client.policy.policy import Policy

LONGEST_TEXT = 4000
HARMLESS_CONTROLS = frozenset("\n\t")


@dataclass(frozen=True)
class Violation:
    """One reason.

    Attributes
    ----------
    code
        A registered code.
    what
        The study's value and the policy's.
    """

    code: str
    what: str

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return CODES[self.code].next_step


def violations(
    policy: Policy,
    study: Study,
    coordinator_fingerprint: str,
    patients: int | None = None,
    now: datetime | None = None,
) -> list[Violation]:
    """Compare a study with a policy.

    Parameters
    ----------
    coordinator_fingerprint
        Of the key that signed the study.
    patients
        The site's training patients; None when they are not counted yet.
    now
        The time for which ``hours`` and ``days`` are checked; None: they are not, as for an approval.
    """
    found = [*_deceptions(study), *_who_and_what(policy, study, coordinator_fingerprint)]
    found += _privacy(policy, study)
    floor = max(policy.minimum_patients, study.aggregation.minimum_patients)
    if patients is not None and patients < floor:
        found.append(Violation("MMF-323", f"{patients} training patients, the floor is {floor}"))
    if now is not None and not policy.is_open(now):
        window = f"{policy.hours} on {', '.join(policy.days) or 'no day'}"
        found.append(Violation("MMF-327", f"it is {now.astimezone():%a %H:%M}, allowed is {window}"))
    return found


def _who_and_what(policy: Policy, study: Study, coordinator: str) -> Iterator[Violation]:
    if policy.coordinators and _plain(coordinator) not in map(_plain, policy.coordinators):
        yield Violation("MMF-324", f"it is signed by {coordinator}")
    if study.aggregation.strategy not in policy.strategies:
        listed = ", ".join(policy.strategies) or "none"
        yield Violation("MMF-325", f"it uses {study.aggregation.strategy}, allowed: {listed}")
    if study.training.rounds > policy.most_rounds:
        yield Violation("MMF-326", f"it has {study.training.rounds} rounds, at most {policy.most_rounds}")
    if policy.hide_counts and not study.aggregation.secure:
        yield Violation("MMF-395", "it sets `secure = false`")
    if study.contract.normalisation == "federated" and not policy.allow_moments:
        yield Violation("MMF-330", 'it sets `normalisation = "federated"`')


def _privacy(policy: Policy, study: Study) -> Iterator[Violation]:
    privacy = study.privacy
    if privacy.mode == "none":
        if policy.require_privacy:
            yield Violation("MMF-328", "the study trains without differential privacy")
        return
    if privacy.noise == "shared" and not policy.allow_shared_noise:
        yield Violation("MMF-396", 'it sets `noise = "shared"`')
    most = min(policy.most_epsilon_per_study, policy.most_epsilon_lifetime)
    if privacy.epsilon is None or not 0 < privacy.epsilon <= most:
        yield Violation("MMF-329", f"its epsilon is {privacy.epsilon}, at most {most:g}")
    if privacy.delta is None or not 0 < privacy.delta <= policy.largest_delta:
        yield Violation("MMF-329", f"its delta is {privacy.delta}, at most {policy.largest_delta:g}")


def _deceptions(study: Study) -> Iterator[Violation]:
    """Text that hides what it says, or that a careless program could take for a path."""
    for key, text in texts(study.model_dump(mode="json")):
        if not text.isprintable() and any(map(_hides, text)):
            yield Violation("MMF-331", f"{_visible(key)} holds characters that do not show")
        elif len(text) > LONGEST_TEXT:
            yield Violation("MMF-331", f"{_visible(key)} is {len(text)} characters long")
    knowledge = study.contract.knowledge
    if knowledge is not None and not _is_file_name(knowledge.file):
        yield Violation(
            "MMF-331", f"contract.knowledge.file is no plain file name: {_visible(knowledge.file)}"
        )


def texts(content: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a document with its key: the values, and the names that keys are made of."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield key, name
            yield from texts(value, f"{key}.{name}".lstrip("."))
    elif isinstance(content, list):
        for value in content:
            yield from texts(value, key)


def _hides(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and (
        character not in HARMLESS_CONTROLS
    )


def _visible(text: str) -> str:
    return ascii(text[:80])[1:-1]


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and not name.startswith("~") and not set(name) & set("/\\:")


def _plain(fingerprint: str) -> str:
    return "".join(fingerprint.split()).lower()
