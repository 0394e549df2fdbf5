"""Who decided what and when: approvals, their withdrawal and refusals, as entries of the ledger."""

from __future__ import annotations

import getpass
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from mmfed_client.approval.offer import verify_offer
from mmfed_client.home import SiteHome
from mmfed_client.ledger import Entry, Ledger
from mmfed_client.policy import Policy
from mmfed_common.errors import MmfedError, PrivacyError
from mmfed_common.names import is_sha256, parse_time, utc_now
from mmfed_common.signed_study import SignedStudy

APPROVAL = "approval"
REVOCATION = "revocation"
REFUSAL = "refusal"
EVERY_STUDY = "*"
LONGEST_NAME = 100
MOST_REFUSALS_A_DAY = 50
"""So that a coordinator that keeps offering nonsense cannot fill a site's disk."""


@dataclass(frozen=True)
class Approval:
    """How a study stands at a site.

    Attributes
    ----------
    people
        Who has approved it and not withdrawn, in order.
    needed
        How many people must.
    expires
        Until when; None before the first approval.
    """

    people: tuple[str, ...]
    needed: int
    expires: datetime | None

    @property
    def complete(self) -> bool:
        """Whether enough people have approved."""
        return len(self.people) >= self.needed

    def holds(self, now: datetime) -> bool:
        """Whether the study may run now."""
        return self.complete and self.expires is not None and now < self.expires


def approve(
    home: SiteHome,
    ledger: Ledger,
    signed: SignedStudy,
    person: str,
    patients: int | None = None,
    now: datetime | None = None,
) -> Entry:
    """Approve a study after checking it again, and record who did it and when.

    With ``two_person`` in the policy the study may run once two people with different names have done so.

    Parameters
    ----------
    person
        The name of who approves, as it shall stand in the ledger.

    Raises
    ------
    MmfedError
        As :func:`~mmfed_client.approval.verify_offer`; ``MMF-335`` when the same person approves a second
        time while another is needed, ``MMF-336`` when the name cannot be used.
    """
    moment = now or utc_now()
    name = checked_name(person)
    study = verify_offer(home, signed, patients, moment)
    policy = Policy.load(home.policy_file)
    before = state_of(ledger, study.hash, policy.people)
    same = _key(name) in map(_key, before.people)
    if same and not before.complete:
        raise PrivacyError("MMF-335", f"{name} has approved this study already; one more person is needed")
    people = before.people if same else (*before.people, name)
    body = {
        "study": study.hash,
        "name": study.study.name,
        "version": study.study.version,
        "person": name,
        "account": _account(),
        "federation": signed.federation,
        "coordinator": signed.coordinator_fingerprint,
        "signed": signed.issued,
        "expires": signed.expires,
        "needed": policy.people,
        "complete": len(people) >= before.needed,
    }
    return ledger.append(APPROVAL, body, moment)


def revoke(ledger: Ledger, person: str, study_hash: str | None = None, now: datetime | None = None) -> Entry:
    """Withdraw approval of one study, or of all; whatever runs stops.

    Parameters
    ----------
    study_hash
        None: every study.
    """
    body = {"study": study_hash or EVERY_STUDY, "person": checked_name(person), "account": _account()}
    return ledger.append(REVOCATION, body, now)


def state_of(ledger: Ledger, study_hash: str, people: int = 1) -> Approval:
    """Tell how a study stands.

    Parameters
    ----------
    people
        How many people the policy asks for now; what it asked for when they approved counts as well.
    """
    names: dict[str, str] = {}
    needed, expires = people, None
    for entry in ledger.decisions():
        body = entry.body
        if entry.kind == REVOCATION and body["study"] in (study_hash, EVERY_STUDY):
            names, needed, expires = {}, people, None
        elif entry.kind == APPROVAL and body["study"] == study_hash:
            names.setdefault(_key(body["person"]), body["person"])
            needed = max(needed, body["needed"])
            expires = parse_time(body["expires"])
    return Approval(tuple(names.values()), needed, expires)


def approved(ledger: Ledger, study_hash: str, now: datetime, people: int = 1) -> bool:
    """Tell whether a study may run at this moment as far as approvals go.

    Raises
    ------
    PrivacyError
        ``MMF-310``, ``MMF-311``, ``MMF-312`` when the ledger cannot be believed or read.
    """
    return state_of(ledger, study_hash, people).holds(now)


def last_approved(ledger: Ledger) -> str | None:
    """Hash of the study that was approved last by enough people, withdrawn or not; None before the first."""
    hashes = [
        entry.body["study"] for entry in _of_kind(ledger.decisions(), APPROVAL) if entry.body["complete"]
    ]
    return hashes[-1] if hashes else None


def record_refusal(
    ledger: Ledger, study_hash: str | None, error: MmfedError, now: datetime | None = None
) -> Entry | None:
    """Record that the site refused a study or a coordinator, and why; None when that is recorded already.

    Parameters
    ----------
    study_hash
        As the document gives it; None when it has none that could be read.
    error
        Only its code and fixed meaning are kept, and at most :data:`MOST_REFUSALS_A_DAY` in 24 hours.
    """
    moment = now or utc_now()
    study = study_hash if study_hash is not None and is_sha256(study_hash) else ""
    body = {"study": study, "code": error.code, "meaning": error.public[8:]}
    recent = [e for e in _of_kind(ledger.decisions(), REFUSAL) if e.time > moment - timedelta(days=1)]
    if len(recent) >= MOST_REFUSALS_A_DAY or body in [dict(entry.body) for entry in recent]:
        return None
    return ledger.append(REFUSAL, body, moment)


def checked_name(person: str) -> str:
    """Clean a person's name.

    Raises
    ------
    PrivacyError
        ``MMF-336`` when it is empty, too long, or does not print.
    """
    name = " ".join(unicodedata.normalize("NFKC", person).split())
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise PrivacyError("MMF-336", f"{person[:LONGEST_NAME]!a} is no name")
    return name


def _account() -> str:
    """The operating system's account, which need not have a name in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _key(name: str) -> str:
    return name.casefold()


def _of_kind(entries: Iterable[Entry], kind: str) -> Iterator[Entry]:
    return (entry for entry in entries if entry.kind == kind)
