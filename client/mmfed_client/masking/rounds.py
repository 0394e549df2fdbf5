"""The masked rounds of a site: answers the messages of secure aggregation, one after another.

What is remembered between two messages lives in memory only: a site that was restarted is one that dropped
out. What must outlive a restart is in the ledger: a round's sum that was opened once is not opened again for
other sites, since the two sums together would show what the difference between them is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import Message
from torch import Tensor

from mmfed_client.gate import Gate
from mmfed_client.ledger.receipts import RECEIPT
from mmfed_client.masking.peers import note_peers, refuse_unlisted
from mmfed_client.masking.session import MaskingSession
from mmfed_client.privacy.noise import keyed_digest
from mmfed_client.privacy.secret import secret_of
from mmfed_client.training import LocalSite
from mmfed_common import messages as m
from mmfed_common.arrays import Shapes
from mmfed_common.errors import PrivacyError
from mmfed_common.masking import fields as f
from mmfed_common.masking.fixed_point import MOST_PATIENTS
from mmfed_common.masking.keys import Session, set_digest
from mmfed_common.masking.shared_noise import honest_sites, shares_noise
from mmfed_common.masking.stream import Vector
from mmfed_common.masking.wide import add_wide_masks, encode_wide
from mmfed_common.signing import SiteKey

TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Attempt:
    """One attempt at a masked round, for what is computed in it.

    Attributes
    ----------
    name
        Holds the keys that the site made for it by chance, so that no other has it. Empty in a simulation:
        there a round that is repeated gives the same bits.
    honest_sites
        Of how many sites the noise is surely in the sum, where they share it; else 0.
    """

    name: bytes
    honest_sites: int


class MaskedRounds:
    """Keeps the session of each site of this process; a real site's process has one."""

    def __init__(self) -> None:
        self._sessions: dict[str, MaskingSession] = {}
        self._keys: dict[str, SiteKey] = {}
        self._opened: dict[str, dict[tuple[str, int], str]] = {}

    def keys(self, message: Message, site: LocalSite, gate: Gate) -> Message:
        """Begin a session: whatever was going on before is forgotten."""
        _refuse_unmasked_study(site)
        with _read(site):
            token = f.text(_record(message), f.SESSION)
            if not TOKEN.fullmatch(token):
                raise f.UnreadableError("its session is none")
        session = Session(site.study.hash, _round(message), token)
        opened = MaskingSession(session, site.name, self._key(site, gate), site.study.aggregation)
        self._sessions[site.name] = opened
        return gate.masking(message, len(site.fit), {f.SESSION: token, **f.write_peers([opened.own])})

    def shares(self, message: Message, site: LocalSite, gate: Gate) -> Message:
        """Check the peers and give each the shares that it may need."""
        session, record = self._session(message, site)
        with _read(site):
            peers, threshold = f.read_peers(record), f.number(record, f.THRESHOLD)
        if gate.policy is not None:
            refuse_unlisted(gate.policy.peers, peers, site.name)
        sealed = session.share(peers, threshold)
        if shares_noise(site.study):
            honest_sites(site.study, len(peers), threshold, site.name)
        if gate.way_out is not None:
            note_peers(gate.way_out.ledger, site.study.hash, peers)
        return self._answer(message, site, gate, {f.SEALED: sealed})

    def update(
        self,
        message: Message,
        site: LocalSite,
        gate: Gate,
        vector: Vector,
        seconds: float,
        allowed: Shapes,
    ) -> Message:
        """Send an update masked.

        Parameters
        ----------
        vector
            The update as whole numbers.
        allowed
            What may leave: the one array of the round's layout.
        """
        session, senders, sealed = self._masking(message, site)
        session.mask(senders, sealed, vector)
        return gate.masked_update(message, len(site.fit), vector, seconds, allowed)

    def sums(self, message: Message, site: LocalSite, gate: Gate, arrays: Mapping[str, Tensor]) -> Message:
        """Send sums of features masked, in the order of their names."""
        session, senders, sealed = self._masking(message, site)
        plain = np.concatenate([arrays[name].numpy().reshape(-1) for name in sorted(arrays)])
        try:
            vector = encode_wide(plain)
        except ValueError as error:
            raise PrivacyError("MMF-383", str(error), site.name) from None
        name = _name_of_sums(vector, gate)
        session.mask(senders, sealed, vector, add_wide_masks)
        allowed = {f.MASKED: (vector.shape, torch.int64)}
        return gate.masked_sums(message, len(site.fit), vector, allowed, name)

    def agree(self, message: Message, site: LocalSite, gate: Gate) -> Message:
        """Say to the peers whose sum this site opens."""
        session, record = self._session(message, site)
        with _read(site):
            alive, gone = f.texts(record, f.ALIVE), f.texts(record, f.GONE)
        self._refuse_second_sum(site, gate, session, set_digest(alive))
        return self._answer(message, site, gate, {f.TAGS: session.agree(alive, gone)})

    def open(self, message: Message, site: LocalSite, gate: Gate) -> Message:
        """Give the shares that open the sum."""
        session, record = self._session(message, site)
        with _read(site):
            agreed, tags = f.texts(record, f.SITES), f.items(record, f.TAGS)
        digest = set_digest(session.alive)
        self._refuse_second_sum(site, gate, session, digest)
        shares = session.open(agreed, tags)
        del self._sessions[site.name]
        answer = self._answer_of(message, site, gate, session, {f.OPENED: digest, f.SHARES: shares})
        self._known(site, gate)[site.study.hash, session.session.round] = digest
        return answer

    def attempt(self, message: Message, site: LocalSite, gate: Gate) -> Attempt:
        """Raise before work whose result could not be masked: nothing is trained, or paid, in vain.

        Raises
        ------
        PrivacyError
            ``MMF-380`` with more patients than sums hold; ``MMF-387`` when no masked round is going on, or
            its numbers were sent already; ``MMF-388`` for masks with other sites than the round's;
            ``MMF-394`` without what masks need; ``MMF-397`` where noise is shared by too few.
        """
        if len(site.fit) > MOST_PATIENTS:
            raise PrivacyError("MMF-380", f"more than {MOST_PATIENTS} patients at one site", site.name)
        session, senders, sealed = self._masking(message, site)
        session.check_senders(senders, sealed)
        name = b"" if gate.way_out is None else session.own.statement(session.session)
        if not shares_noise(site.study):
            return Attempt(name, 0)
        return Attempt(name, honest_sites(site.study, len(session.peers), session.threshold, site.name))

    def _answer(self, message: Message, site: LocalSite, gate: Gate, content: dict[str, object]) -> Message:
        return self._answer_of(message, site, gate, self._sessions[site.name], content)

    def _answer_of(
        self,
        message: Message,
        site: LocalSite,
        gate: Gate,
        session: MaskingSession,
        content: dict[str, object],
    ) -> Message:
        return gate.masking(message, len(site.fit), {f.SESSION: session.session.token, **content})

    def _session(self, message: Message, site: LocalSite) -> tuple[MaskingSession, Mapping[str, object]]:
        _refuse_unmasked_study(site)
        record = _record(message)
        with _read(site):
            named = Session(site.study.hash, _round(message), f.text(record, f.SESSION))
        found = self._sessions.get(site.name)
        if found is None or found.session != named:
            raise PrivacyError("MMF-387", "no such round is going on at this site", site.name)
        return found, record

    def _masking(self, message: Message, site: LocalSite) -> tuple[MaskingSession, list[str], list[bytes]]:
        """The session, the sites whose masks go into its numbers, and what these sealed for this one."""
        session, record = self._session(message, site)
        with _read(site):
            return session, f.texts(record, f.SITES), f.items(record, f.SEALED)

    def _key(self, site: LocalSite, gate: Gate) -> SiteKey:
        """The enrolled key; in a simulation, where nobody is enrolled, one of this process."""
        if gate.way_out is not None:
            return gate.way_out.key
        if site.name not in self._keys:
            self._keys[site.name] = SiteKey.generate()
        return self._keys[site.name]

    def _refuse_second_sum(self, site: LocalSite, gate: Gate, session: MaskingSession, digest: str) -> None:
        before = self._known(site, gate).get((site.study.hash, session.session.round))
        if before not in (None, digest):
            raise PrivacyError("MMF-389", f"round {session.session.round}", site.name)

    def _known(self, site: LocalSite, gate: Gate) -> dict[tuple[str, int], str]:
        """Which sums this site has opened: (study, round) → SHA-256 over their sites."""
        if site.name not in self._opened:
            found: dict[tuple[str, int], str] = {}
            for entry in () if gate.way_out is None else gate.way_out.ledger.entries():
                if entry.kind == RECEIPT and f.OPENED in entry.body:
                    found[entry.body["study"], entry.body["round"]] = entry.body[f.OPENED]
            self._opened[site.name] = found
        return self._opened[site.name]


def _name_of_sums(vector: Vector, gate: Gate) -> str:
    """What sums that leave masked are called in the ledger; by a hash without a key they could be guessed."""
    if gate.way_out is None:
        return ""
    return keyed_digest(secret_of(gate.way_out.guardian.home), "sums", vector.tobytes()).hex()


def _refuse_unmasked_study(site: LocalSite) -> None:
    if not site.study.aggregation.secure:
        raise PrivacyError("MMF-394", "the study sets `secure = false`", site.name)


def _record(message: Message) -> Mapping[str, object]:
    found: Mapping[str, object] | None = message.content.config_records.get(m.MASKING)
    if found is None:
        raise PrivacyError("MMF-394", f"{message.metadata.message_type[:40]} without its record")
    return found


def _round(message: Message) -> int:
    return f.number(message.content.config_records[m.CONFIG], m.ROUND)


@contextmanager
def _read(site: LocalSite) -> Iterator[None]:
    try:
        yield
    except f.UnreadableError as error:
        raise PrivacyError("MMF-394", str(error), site.name) from None
