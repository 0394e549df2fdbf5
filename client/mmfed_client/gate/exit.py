"""What the gate of a real site has and a simulation's has not: a policy, a ledger, a key, a receipt."""

from __future__ import annotations

import hashlib
import re
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode

from mmfed_client.approval import Guardian
from mmfed_client.fleet.objects import objects_of
from mmfed_client.ledger import Head, Ledger
from mmfed_client.ledger.receipts import RECEIPT
from mmfed_client.policy import Policy
from mmfed_common import messages as m
from mmfed_common.errors import MmfedError, PrivacyError
from mmfed_common.masking import fields
from mmfed_common.names import is_sha256
from mmfed_common.seal import seal
from mmfed_common.signing import SiteKey

KIND = re.compile(r"[a-z][a-z_.]{0,39}")
EXCEPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")


MOST_A_MINUTE = 60
"""Errors, and answers to who is there: so that nobody can fill a site's disk with their receipts."""
MINUTE = 60.0

Objects = list[tuple[str, bytes]]
"""(object id, bytes) of everything that is pushed for an answer."""
Released = tuple[Message, Objects]

TELLING = frozenset({"MMF-407", "MMF-604"})
"""Codes of errors that depend on patients: with weights made for it, that something overflows would tell
whether somebody has a value. They count as answers, and so does whatever nobody expected."""


@dataclass(frozen=True)
class Exit:
    """How an answer leaves a real site.

    Attributes
    ----------
    guardian
        Says whether the study may run, and gives the policy as it is now.
    ledger
        Takes the receipts.
    key
        Signs what leaves.
    failures, greetings
        When errors and answers to a hello left lately, in seconds of the monotonic clock.
    """

    guardian: Guardian
    ledger: Ledger
    key: SiteKey
    failures: deque[float] = field(default_factory=deque, repr=False)
    greetings: deque[float] = field(default_factory=deque, repr=False)
    _released: deque[Released] = field(default_factory=lambda: deque(maxlen=1), repr=False)

    def policy(self) -> Policy:
        """The policy as it is now."""
        return self.guardian.policy()

    def head(self) -> Head:
        """The ledger's head before the receipt."""
        return self.ledger.head

    def past(self, length: int) -> str:
        """The hash of an entry of the ledger, by which the server sees that its past is what it was."""
        return self.ledger.hash_at(length)

    def release(
        self, answer: Message, policy: Policy, study_hash: str, *, private: bool = False, sums: str = ""
    ) -> Message:
        """Sign an answer and write its receipt; what is returned may be sent as it is, and only so.

        Approval is looked at once more: it may have been withdrawn while the site was training.

        Parameters
        ----------
        private
            Whether the study trains with differential privacy: then nothing that was not paid leaves.
        sums
            A name of sums of features that leave masked: what the masks hide must stay the same, too.

        Raises
        ------
        PrivacyError
            ``MMF-309`` when the ledger does not say that an update was paid; ``MMF-332`` and its kin when
            approval is gone; ``MMF-340`` when the answer is larger than the policy allows; ``MMF-344`` when
            other sums of features have left for the study; ``MMF-342`` for too many answers to a hello;
            ``MMF-310`` to ``MMF-312`` when no receipt can be written. Nothing leaves then.
        """
        kind = answer.metadata.message_type
        if kind == m.HELLO:
            _count(self.greetings, "answers to a hello")
        seal(answer, self.key)
        objects = objects_of(answer)
        body = receipt_of(answer, objects)
        if kind == m.MOMENTS:
            body["sums"] = digest = sums or _digest(answer)
            if self.ledger.sums(study_hash) not in (None, digest):
                raise PrivacyError("MMF-344", "the cohort has changed since they were sent")
        if kind == m.MASK_OPEN:
            body[fields.OPENED] = answer.content.config_records[m.MASKING][fields.OPENED]
        if private:
            self._refuse_unpaid(kind, study_hash, body["round"])
        if body["bytes"] > policy.largest_update_bytes:
            what = f"{body['bytes']} bytes, at most {policy.largest_update_bytes}"
            raise PrivacyError("MMF-340", what)
        self.guardian.refuse_unapproved(study_hash)
        self.ledger.append(RECEIPT, body)
        self._released.append((answer, objects))
        return answer

    def take_objects(self, answer: Message) -> Objects:
        """Give what is to be pushed for an answer, and let go of it.

        For the one that was released last these are the very bytes that its receipt lists, and not made
        again.
        """
        while self._released:
            released, objects = self._released.pop()
            if released is answer:
                return objects
        return objects_of(answer)

    def _refuse_unpaid(self, kind: str, study_hash: str, number: int) -> None:
        """An update leaves right after its round was settled, sums of features after they were paid."""
        account = self.ledger.privacy().of(study_hash)
        if kind == m.TRAIN and (account is None or account.done != number):
            raise PrivacyError("MMF-309", f"the update of round {number} is not what was paid last")
        if kind == m.MOMENTS and (account is None or not account.releases):
            raise PrivacyError("MMF-309", "the sums of features were not paid")

    def release_error(self, answer: Message, request: Message, *, telling: bool = False) -> Message:
        """Write the receipt of an answer that only says that something failed.

        Parameters
        ----------
        telling
            Whether that it failed could say something about patients: then it counts as an answer.

        Raises
        ------
        PrivacyError
            ``MMF-342`` when too many failed within a minute; ``MMF-310`` to ``MMF-312`` when no receipt can
            be written. Nothing leaves then.
        """
        _count(self.failures, "failures")
        body = receipt_of(answer, objects_of(answer), request)
        self.ledger.append(RECEIPT, {**body, "telling": True} if telling else body)
        return answer


def receipt_of(answer: Message, sent: Objects, request: Message | None = None) -> dict[str, Any]:
    """Describe an answer, byte for byte, as it will be sent.

    Parameters
    ----------
    sent
        Its objects, see :func:`mmfed_client.fleet.objects.objects_of`.
    request
        The message that an error answers: an error says nothing about its study itself.

    Returns
    -------
    ``kind``, ``round``, ``study``, ``request``; ``objects``, a list of [object id, bytes]: the id is the
    SHA-256 of an object's bytes; ``bytes``, their sum; ``sha256`` over the ids one after the other, which
    covers every byte; ``metrics`` with the very numbers, or ``error`` with the text.
    """
    objects: list[list[Any]] = []
    names = hashlib.sha256()
    for name, content in sent:
        objects.append([name, len(content)])
        names.update(name.encode())
    kind = answer.metadata.message_type
    body: dict[str, Any] = {
        "kind": kind if KIND.fullmatch(kind) else "unknown",
        "objects": objects,
        "bytes": sum(size for _, size in objects),
        "sha256": names.hexdigest(),
    }
    if answer.has_error():
        config = _config_of(request) if request is not None else {}
        study, number = config.get(m.STUDY_HASH), config.get(m.ROUND)
        body["study"] = study if isinstance(study, str) and is_sha256(study) else ""
        body["round"] = number if type(number) is int and 0 <= number < 2**31 else -1
        body["request"] = ""
        body["error"] = answer.error.reason
    else:
        about = answer.content.config_records[m.ABOUT]
        body["study"], body["round"] = about[m.STUDY_HASH], about[m.ROUND]
        body["request"] = about[m.REQUEST]
        body["metrics"] = dict(answer.content.metric_records[m.METRICS])
    return body


def error_reply(request: Message, error: Exception, way_out: Exit | None = None) -> Message:
    """Say that something failed: a code and its meaning, or the exception's type, never its text.

    Parameters
    ----------
    way_out
        A real site's exit, which writes the receipt; None in a simulation.

    Raises
    ------
    PrivacyError
        ``MMF-310`` to ``MMF-312`` when no receipt can be written, ``MMF-342`` when too many messages failed
        lately: then nothing at all leaves.
    """
    telling = True
    if isinstance(error, MmfedError):
        reason, telling = error.public, error.code in TELLING
    else:
        name = type(error).__name__
        reason = name if EXCEPTION.fullmatch(name) else "Exception"
    answer = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=request)
    return answer if way_out is None else way_out.release_error(answer, request, telling=telling)


def _count(lately: deque[float], what: str) -> None:
    """Count one more; raise ``MMF-342`` when there were too many within a minute."""
    now = time.monotonic()
    while lately and now - lately[0] > MINUTE:
        lately.popleft()
    if len(lately) >= MOST_A_MINUTE:
        raise PrivacyError("MMF-342", f"{MOST_A_MINUTE} {what} within {MINUTE:g} s")
    lately.append(now)


def _digest(answer: Message) -> str:
    """One hash over an answer's arrays."""
    found = hashlib.sha256()
    for name, array in answer.content.array_records[m.ARRAYS].items():
        found.update(f"{name} {len(array.data)} ".encode() + array.data)
    return found.hexdigest()


def _config_of(request: Message) -> Mapping[str, object]:
    if not request.has_content():
        return {}
    config: Mapping[str, object] = request.content.config_records.get(m.CONFIG, {})
    return config
