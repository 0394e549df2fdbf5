"""Is an offered study what it claims to be, and does the site's policy let it run?"""

from __future__ import annotations

from datetime import datetime

from mmfed_client.home import SiteHome
from mmfed_client.policy import Policy, Violation
from mmfed_common.errors import PrivacyError
from mmfed_common.signed_study import SignedStudy
from mmfed_common.study import Study


def open_offer(home: SiteHome, signed: SignedStudy, now: datetime | None = None) -> Study:
    """Check signature, federation, dates, form and hash of an offer, but not the policy.

    Raises
    ------
    NetworkError, StudyError, PrivacyError
        As :meth:`mmfed_common.signed_study.SignedStudy.open`.
    """
    return signed.open(home.coordinator, home.config.federation, now)


def verify_offer(
    home: SiteHome, signed: SignedStudy, patients: int | None = None, now: datetime | None = None
) -> Study:
    """Check everything about an offered study that can be checked before it is approved.

    Parameters
    ----------
    patients
        The site's training patients, where they are counted already.
    now
        The time; default: this machine's clock. The policy's hours are not checked here: a study may be
        approved by day and run by night.

    Raises
    ------
    NetworkError, StudyError
        As :meth:`mmfed_common.signed_study.SignedStudy.open`.
    PrivacyError
        ``MMF-322`` with every reason when the policy refuses it; ``MMF-320``, ``MMF-321`` when there is no
        valid policy.
    """
    study = open_offer(home, signed, now)
    policy = Policy.load(home.policy_file)
    refuse_violations(policy.violations(study, signed.coordinator_fingerprint, patients))
    return study


def refuse_violations(found: list[Violation]) -> None:
    """Raise what was found: one reason by its own code, several together as ``MMF-322``."""
    if len(found) == 1:
        raise PrivacyError(found[0].code, found[0].what)
    if found:
        lines = "".join(f"\n  {violation.code} {violation.what}" for violation in found)
        raise PrivacyError("MMF-322", f"{len(found)} reasons{lines}")
