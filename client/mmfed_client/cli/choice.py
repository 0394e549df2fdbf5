"""Which study a person means: a file, the beginning of a hash, or what the coordinator offers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmfed_common.errors import MachineError

if TYPE_CHECKING:
    from mmfed_client.enrolment import PortalClient
    from mmfed_client.home import SiteHome
    from mmfed_client.policy import Policy
    from mmfed_client.review import Review
    from mmfed_common.signed_study import SignedStudy
    from mmfed_common.study import Study

StudyChoice = Annotated[
    str,
    typer.Argument(
        metavar="[STUDY]",
        help="The file of a signed study, or the beginning of the hash of one that was seen before. "
        "Default: the one that the coordinator offers now; where that is approved, the next that is not.",
    ),
]

HASH_BEGINNING = re.compile(r"[0-9a-f]{6,64}")


def chosen_study(home: SiteHome, choice: str, passphrase: str | None) -> SignedStudy:
    """Find the signed study; nothing about it is believed yet.

    Raises
    ------
    MachineError
        ``MMF-114`` when there is none, or the beginning of a hash fits several.
    NetworkError
        ``MMF-418`` when the file is no signed study; otherwise as the portal's client, when it is asked.
    """
    from mmfed_client.enrolment import PortalClient
    from mmfed_client.signed_files import read_signed

    if not choice:
        portal = PortalClient(home, passphrase)
        offer = portal.offer()
        found = offer if offer is not None and not _approved(home, offer.hash) else _ahead(home, portal)
        if (found := found or offer) is None:
            raise MachineError("MMF-114", "the coordinator offers no study now", home.config.address)
        return found
    if HASH_BEGINNING.fullmatch(choice) and not Path(choice).exists():
        return read_signed(home.study_file(chosen_hash(home, choice)))
    return read_signed(Path(choice))


def _ahead(home: SiteHome, portal: PortalClient) -> SignedStudy | None:
    """The first study that waits for its turn and is not approved here yet."""
    for study_hash in portal.waiting():
        if not _approved(home, study_hash) and (found := portal.waiting_study(study_hash)) is not None:
            return found
    return None


def _approved(home: SiteHome, study_hash: str) -> bool:
    """Whether everybody who must has approved a study, and it holds."""
    from mmfed_client.approval import state_of
    from mmfed_client.ledger import Ledger
    from mmfed_client.policy import Policy
    from mmfed_common.names import utc_now

    state = state_of(Ledger(home.ledger_file), study_hash, Policy.load(home.policy_file).people)
    return state.complete and state.holds(utc_now())


def chosen_hash(home: SiteHome, choice: str) -> str:
    """The whole hash of a study in the home, from its beginning.

    Raises
    ------
    MachineError
        ``MMF-114`` unless it fits exactly one.
    """
    found = sorted(path.stem for path in home.studies.glob(f"{choice}*.json") if len(path.stem) == 64)
    if len(found) != 1:
        raise MachineError("MMF-114", f"{len(found)} studies begin with {choice}", str(home.studies))
    return found[0]


def review_of(home: SiteHome, signed: SignedStudy) -> Review:
    """Check who signed a study, compare it with the policy and with what was approved last.

    Raises
    ------
    MmfedError
        When the document itself cannot be believed; what the policy has against it stands in the review.
    """
    from mmfed_client.approval import record_refusal
    from mmfed_client.approval.offer import open_offer
    from mmfed_client.budget import outlook
    from mmfed_client.ledger import Ledger
    from mmfed_client.policy import Policy
    from mmfed_client.review import describe
    from mmfed_client.review.earlier import earlier_sums
    from mmfed_client.review.sentences import Statement
    from mmfed_client.signed_files import keep_signed
    from mmfed_common.errors import MmfedError

    try:
        study = open_offer(home, signed)
    except MmfedError as error:
        record_refusal(Ledger(home.ledger_file), signed.hash, error)
        raise
    keep_signed(home, signed)
    policy: Policy = Policy.load(home.policy_file)
    found = policy.violations(study, signed.coordinator_fingerprint)
    private = study.privacy.mode == "dp"
    ledger = Ledger(home.ledger_file)
    more = [Statement("budget", outlook(ledger, study, policy))] if private else []
    more += [Statement("beware", sentence) for sentence in earlier_sums(ledger, study)]
    return describe(study, previous_study(home, study.hash), found, signed, policy, more)


def previous_study(home: SiteHome, but: str) -> Study | None:
    """The study that was approved last, other than this one; None when there is none that can be read."""
    from mmfed_client.approval.decisions import APPROVAL
    from mmfed_client.ledger import Ledger
    from mmfed_client.signed_files import read_signed
    from mmfed_common.errors import MmfedError
    from mmfed_common.study import Study

    for entry in reversed(Ledger(home.ledger_file).decisions()):
        if entry.kind != APPROVAL or not entry.body["complete"] or entry.body["study"] == but:
            continue
        try:
            return Study.model_validate_json(read_signed(home.study_file(entry.body["study"])).document)
        except (MmfedError, ValueError):
            return None
    return None
