"""May the node run now, and on which study? Asked many times a minute, answered from what is on the disk."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mmfed_client.approval import Guardian, last_approved, record_refusal, verify_offer
from mmfed_client.home import SiteHome
from mmfed_client.ledger import Ledger
from mmfed_client.logs import about
from mmfed_client.signed_files import keep_signed, read_signed
from mmfed_client.status import State
from mmfed_client.supervisor.offers import Answer
from mmfed_common.errors import MachineError, MmfedError
from mmfed_common.names import utc_now
from mmfed_common.signed_study import SignedStudy
from mmfed_common.study import Study

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0
"""Even if no file changed: hours begin and end, and studies expire."""

UNAPPROVED = ("MMF-332", "MMF-333", "MMF-334")

Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True)
class Decision:
    """What may run.

    Attributes
    ----------
    study
        The study that may run; None: nothing may.
    state, code, cause
        Why not.
    study_hash, name
        The study that was looked at.
    offered
        Hash of the study that the coordinator offers.
    grounds
        Stands for key, address, cohort and trust: a node that began with others must begin again.
    """

    study: Study | None
    state: State = State.connecting
    code: str = ""
    cause: str = ""
    study_hash: str = ""
    name: str = ""
    offered: str = ""
    grounds: Stamp = ()


class Permission:
    """Decides from offers, ledger, policy, key and configuration.

    The study that the coordinator offers counts; without an offer, e.g. while its server is away, the one
    that was approved last.
    """

    def __init__(self, home: SiteHome, passphrase: str | None = None) -> None:
        self.home = home
        self.ledger = Ledger(home.ledger_file)
        self._passphrase = passphrase
        self._guardian = Guardian(home, self.ledger)
        self._offer: SignedStudy | None = None
        self._unanswered: MmfedError | None = None
        self._stamp: Stamp | None = None
        self._decided = 0.0
        self._decision = Decision(None, State.starting)

    def offered(self, answer: Answer) -> None:
        """Take over what the coordinator answered; without an answer the last offer stands."""
        self._stamp = None
        self._unanswered = answer.error
        if answer.error is None:
            self._offer = answer.offer

    def decide(self, now: datetime | None = None) -> Decision:
        """Decide; the last decision stands as long as no file has changed, but not for long."""
        stamp = self._seen()
        if stamp != self._stamp or time.monotonic() - self._decided > AGAIN_SECONDS or now is not None:
            self._decision = self._anew(now or utc_now())
            self._stamp, self._decided = self._seen(), time.monotonic()
        return self._decision

    def _anew(self, now: datetime) -> Decision:
        offered = "" if self._offer is None else self._offer.hash
        wanted, name = offered, ""
        try:
            self.home.key(self._passphrase)
            wanted = offered or last_approved(self.ledger) or ""
            if not wanted:
                return self._nothing_known()
            signed = self._signed(wanted)
            study = self._verified(signed, now)
            name = study.study.name
            keep_signed(self.home, signed)
            self._guardian.refuse_unapproved(wanted)
            self._guardian.allow(study)
            self._refuse_without_cohort()
            return Decision(study, study_hash=wanted, name=name, offered=offered, grounds=self._grounds())
        except MmfedError as error:
            state = State.waiting_for_approval if error.code in UNAPPROVED else State.blocked
            where = f" ({error.where})" if error.where else ""
            return Decision(None, state, error.code, f"{error.what}{where}", wanted, name, offered)

    def _nothing_known(self) -> Decision:
        error = self._unanswered or MachineError("MMF-114", "the coordinator offers no study")
        where = f" ({error.where})" if error.where else ""
        return Decision(None, State.waiting_for_study, error.code, f"{error.what}{where}")

    def _signed(self, wanted: str) -> SignedStudy:
        if self._offer is not None and self._offer.hash == wanted:
            return self._offer
        return read_signed(self.home.study_file(wanted))

    def _verified(self, signed: SignedStudy, now: datetime) -> Study:
        """Check the document; a refusal is recorded in the ledger, so that it can be shown later."""
        try:
            return verify_offer(self.home, signed, now=now)
        except MmfedError as error:
            if record_refusal(self.ledger, signed.hash, error, now) is not None:
                logger.warning(
                    "a study is refused: %s", error, extra=about(code=error.code, study=signed.hash)
                )
            raise

    def _refuse_without_cohort(self) -> None:
        if self.home.cohort_file is None:
            raise MachineError("MMF-113", "there is no key `cohort`", str(self.home.config_file))

    def _grounds(self) -> Stamp:
        home = self.home
        return tuple(map(_stamp, (home.config_file, home.key_file, home.coordinator_file, home.ca_file)))

    def _seen(self) -> Stamp:
        """Everything on the disk that a decision depends on, as it can be told without reading it."""
        files = [self.home.policy_file, self.home.ledger_file]
        if self._decision.study_hash:
            files.append(self.home.study_file(self._decision.study_hash))
        return self._grounds() + tuple(map(_stamp, files))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ctime_ns, status.st_size, status.st_ino
