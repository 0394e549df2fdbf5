"""The guardian: before anything is done for a message, may this study run here and now?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from flwr.app import Message

from mmfed_client.approval.decisions import state_of
from mmfed_client.approval.offer import refuse_violations
from mmfed_client.budget import refuse_over_budget
from mmfed_client.home import SiteHome
from mmfed_client.ledger import Ledger
from mmfed_client.policy import Policy
from mmfed_common import messages as m
from mmfed_common.errors import NetworkError, PrivacyError
from mmfed_common.names import is_sha256, utc_now
from mmfed_common.study import Study


class Guardian:
    """Decides for each message from the ledger and the policy as they are on the disk at that moment.

    Parameters
    ----------
    home
        The site's home.
    ledger
        Its ledger.
    clock
        Gives the time, with its zone.
    """

    def __init__(self, home: SiteHome, ledger: Ledger, clock: Callable[[], datetime] = utc_now) -> None:
        self.home, self.ledger, self.clock = home, ledger, clock

    def policy(self) -> Policy:
        """The policy as it is now; ``MMF-320`` or ``MMF-321`` when there is no valid one."""
        return Policy.load(self.home.policy_file)

    def refuse_unapproved(self, study_hash: str) -> None:
        """Raise unless the study is approved now.

        Raises
        ------
        PrivacyError
            ``MMF-332`` when it is not approved or approval was withdrawn, ``MMF-334`` when a second person is
            missing, ``MMF-333`` when the approval has ended; ``MMF-310`` to ``MMF-312`` when the ledger
            cannot be believed or read.
        """
        state = state_of(self.ledger, study_hash, self.policy().people)
        if not state.people:
            raise PrivacyError("MMF-332", "nobody here has approved this study")
        if not state.complete:
            raise PrivacyError(
                "MMF-334", f"{', '.join(state.people)} approved it, {state.needed} people must"
            )
        if not state.holds(self.clock()):
            raise PrivacyError("MMF-333", f"it ended at {state.expires}")

    def admit(self, request: Message) -> str:
        """Decide about a message before the site's patients are touched.

        Returns
        -------
        The hash of the approved study that the message names.

        Raises
        ------
        NetworkError
            ``MMF-405`` when the message names no study, or no round where one belongs.
        PrivacyError
            As :meth:`refuse_unapproved`; ``MMF-343`` when the same was asked too often.
        """
        config = request.content.config_records.get(m.CONFIG) if request.has_content() else None
        named = None if config is None else config.get(m.STUDY_HASH)
        if config is None or not isinstance(named, str) or not is_sha256(named):
            raise NetworkError("MMF-405", "the message names no study")
        self.refuse_unapproved(named)
        self._refuse_repetition(request, named, config.get(m.ROUND))
        return named

    def _refuse_repetition(self, request: Message, study_hash: str, number: object) -> None:
        """The same question again and again, each time with other weights, would draw out patients."""
        kind = request.metadata.message_type
        if kind == m.HELLO:
            return
        if type(number) is not int or (kind == m.MOMENTS and number != 0):  # True is an int, and equals 1
            raise NetworkError("MMF-405", f"{number!r} is no round of {kind[:40]}")
        most = self.policy().most_answers_per_round
        if self.ledger.answers(study_hash, kind, number) >= most:
            raise PrivacyError("MMF-343", f"{kind} of round {number} was answered {most} times")

    def allow(self, study: Study, patients: int | None = None) -> Policy:
        """Compare the study with the policy as it is now.

        Parameters
        ----------
        patients
            The site's training patients; None: not looked at here (the gate does).

        Raises
        ------
        PrivacyError
            The violation's own code, or ``MMF-322`` with all of them. With ``patients``, for a study with
            differential privacy: ``MMF-306``, ``MMF-307``, ``MMF-371`` when this site cannot keep its
            promise, ``MMF-308`` when the budget does not pay for all of it.
        """
        policy = self.policy()
        fingerprint = self.home.coordinator.fingerprint
        refuse_violations(policy.violations(study, fingerprint, patients, self.clock()))
        if patients is not None:
            refuse_over_budget(self.ledger.privacy(), study, policy, patients)
        return policy
