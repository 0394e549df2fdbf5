"""One round of training of which the server learns only the sum over its sites.

Keys, sealed shares, masked updates, agreement, opening (Bonawitz et al. 2017): a site may drop out before
each step. Masked updates are added into one vector as they come and not kept. Where fewer sites are left than
the threshold, or than the study's least, nothing is opened and the round is tried again from new keys.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Message, RecordDict
from torch import Tensor

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.masking import fields as f
from mmfed_common.masking.fixed_point import MOST_SITES, FixedPoint
from mmfed_common.masking.keys import PeerKeys, Session
from mmfed_common.masking.layout import Layout
from mmfed_common.masking.rules import LEAST_PEERS
from mmfed_common.masking.stream import Vector
from mmfed_server.guard import Checked, Expected, check_reply, each_array_in_place
from mmfed_server.masking.parties import Parties, tags_for
from mmfed_server.rounds.desk import UNREADABLE
from mmfed_server.rounds.exchange import Answer, Refusal, forget_arrays
from mmfed_server.rounds.roster import sample_sites
from mmfed_server.rounds.spool import PIECE, Piece, SpooledUpdate
from mmfed_server.rounds.training_round import MOST_ATTEMPTS, RoundOutcome, TrainingRound


class NotOpenedError(Exception):
    """An attempt ended before its sum was opened; the text says why."""


@dataclass
class Added:
    """The masked updates of one attempt, added up.

    Attributes
    ----------
    total
        Their sum; masked until it is opened.
    checked
        Site → what is known of its update: seconds and bytes.
    """

    total: Vector
    checked: dict[str, Checked] = field(default_factory=dict)


@dataclass
class MaskedRound(TrainingRound):
    """Runs one round with secure aggregation; takes and gives what :class:`TrainingRound` does.

    A site whose answers break the protocol is left out of the further attempts at the round.
    """

    barred: set[str] = field(default_factory=set)

    def run(self, weights: Mapping[str, Tensor], scaling: Mapping[str, Tensor]) -> RoundOutcome:
        """Train and aggregate; repeat with new keys while too few sites answer. It may be called again.

        Raises
        ------
        NetworkError
            ``MMF-403`` when no sum could be opened, several times.
        ModelError
            ``MMF-604`` when the aggregate is not finite.
        """
        refusals: list[Refusal] = []
        why = ""
        for attempt in range(MOST_ATTEMPTS):
            refusals = self.roster.refresh(self.desk, self.place.round)
            chosen = sample_sites(self.study, self.roster.eligible, self.place.round, attempt)
            try:
                return self._attempt(
                    [site for site in chosen if site not in self.barred], weights, scaling, refusals
                )
            except NotOpenedError as error:
                why = str(error)
            self.report(attempt + 1, refusals)
        self.barred.clear()
        reasons = "".join(f"\n  {refusal.site}: {refusal}" for refusal in refusals)
        what = f"the sum of round {self.place.round} was not opened in {MOST_ATTEMPTS} attempts: {why}"
        raise NetworkError("MMF-403", f"{what}{reasons}")

    @property
    def _least(self) -> int:
        return max(self.study.aggregation.minimum_sites, LEAST_PEERS)

    def _attempt(
        self,
        chosen: list[str],
        weights: Mapping[str, Tensor],
        scaling: Mapping[str, Tensor],
        refusals: list[Refusal],
    ) -> RoundOutcome:
        session = Session(self.study.hash, self.place.round, secrets.token_hex(16))
        layout = Layout(self._shapes(weights), FixedPoint(self.study.aggregation.secure_largest_change))
        parties = self._keys(session, chosen, refusals)
        self._shares(parties, refusals)
        added, size = self._updates(parties, layout, weights, scaling, refusals)
        self._refuse_who_left(parties, refusals)
        self._open(parties, refusals)
        for site, fault in self._unmask(parties, added.total, refusals).items():
            refusals.append(self._barred(site, fault))
        announced = sum(self.roster.patients[site] for site in parties.alive)
        if not layout.is_possible(added.total, announced, len(parties.alive)):
            refusals += [Refusal(site, "MMF-391", "it is one of those of the sum") for site in parties.alive]
            raise NotOpenedError("MMF-391 the sum is not one that sites can have")
        return self._outcome(added, layout, refusals, weights, size)

    def _keys(self, session: Session, chosen: list[str], refusals: list[Refusal]) -> Parties:
        """Let the sites show their keys."""
        self._enough(len(chosen), self._least, "take part")
        found: list[PeerKeys] = []
        asked = {site: f.config({f.SESSION: session.token}) for site in chosen[:MOST_SITES]}
        for site, record in self._ask(m.MASK_KEYS, session, asked, refusals):
            try:
                found.append(_own_keys(record, site, session))
            except (NetworkError, *UNREADABLE) as error:
                refusals.append(self._barred(site, error))
        self._enough(len(found), self._least, "showed keys")
        return Parties.of(session, found, self.study.aggregation.secure_threshold)

    def _shares(self, parties: Parties, refusals: list[Refusal]) -> None:
        """Give everybody the others' keys, and collect what they seal for each other."""
        listed = {
            f.SESSION: parties.session.token,
            f.THRESHOLD: parties.threshold,
            **f.write_peers(list(parties.peers.values())),
        }
        asked = {site: f.config(listed) for site in parties.peers}
        for site, record in self._ask(m.MASK_SHARES, parties.session, asked, refusals):
            sealed = f.items(record, f.SEALED)
            if len(sealed) != len(parties.peers):
                refusals.append(self._barred(site, NetworkError("MMF-392", "it sealed too few", site)))
            else:
                parties.sealed[site] = sealed
        self._enough(len(parties.sealed), max(self._least, parties.threshold), "gave shares")

    def _updates(
        self,
        parties: Parties,
        layout: Layout,
        weights: Mapping[str, Tensor],
        scaling: Mapping[str, Tensor],
        refusals: list[Refusal],
    ) -> tuple[Added, int]:
        """Let the sites train, and add what comes; gives also the bytes of arrays that each was sent."""
        messages, size = self._messages(parties.senders, weights, scaling)
        names = self.roster.name_of(parties.senders)
        for message in messages:
            record = {
                f.SESSION: parties.session.token,
                f.SITES: parties.senders,
                f.SEALED: parties.sealed_for(names[message.metadata.dst_node_id]),
            }
            message.content = RecordDict({**dict(message.content), m.MASKING: f.config(record)})
        added = Added(layout.empty())
        for found in self.desk.ask(messages, names, self.place.round, f"train {self.place.stage_index}"):
            if isinstance(found, Refusal):
                refusals.append(found)
                continue
            try:
                self._add(found, added, layout)
                parties.alive.add(found.site)
            except (NetworkError, *UNREADABLE) as error:
                refusals.append(self._barred(found.site, error))
            finally:
                forget_arrays(found.message)
        least = max(parties.threshold, self.study.aggregation.minimum_sites)
        self._enough(len(parties.alive), least, "sent masked updates")
        return added, size

    def _add(self, answer: Answer, added: Added, layout: Layout) -> None:
        metrics = (m.LOSS, m.SECONDS)
        site, arrays = answer.site, layout.arrays
        expected = Expected(site, self.study.hash, self.place.round, metrics, arrays, num_examples=0)
        checked = check_reply(answer.message, expected)
        (vector,) = [array for _, array in each_array_in_place(answer.message, expected)]
        added.total += vector
        added.checked[site] = checked

    def _refuse_who_left(self, parties: Parties, refusals: list[Refusal]) -> None:
        """A site that may not take part any more is in the sum already: then it is not opened."""
        out, enrolled = self.desk.quarantined(), self.desk.enrolled()
        left = [site for site in sorted(parties.alive) if site in out or site not in enrolled]
        refusals += [Refusal(site, out.get(site, "MMF-463"), "it left during the round") for site in left]
        if left:
            raise NotOpenedError(f"{', '.join(left)} left during the round")

    def _open(self, parties: Parties, refusals: list[Refusal]) -> None:
        """Let the sites that are left agree on the sum, then collect the shares that open it."""
        token, alive = parties.session.token, sorted(parties.alive)
        asked = {site: f.config({f.SESSION: token, f.ALIVE: alive, f.GONE: parties.gone}) for site in alive}
        tags: dict[str, list[bytes]] = {}
        for site, record in self._ask(m.MASK_AGREE, parties.session, asked, refusals):
            given = f.items(record, f.TAGS)
            if len(given) == len(alive):
                tags[site] = given
        self._enough(len(tags), parties.threshold, "agreed to the sum")
        asked = {
            site: f.config({f.SESSION: token, f.SITES: list(tags), f.TAGS: tags_for(site, alive, tags)})
            for site in tags
        }
        for site, record in self._ask(m.MASK_OPEN, parties.session, asked, refusals):
            shares = f.items(record, f.SHARES)
            if len(shares) == len(parties.senders):
                parties.shares[site] = shares
        self._enough(len(parties.shares), parties.threshold, "opened the sum")

    def _unmask(self, parties: Parties, total: Vector, refusals: list[Refusal]) -> dict[str, NetworkError]:
        try:
            return {fault.where: fault for fault in parties.unmask(total)}
        except NetworkError as error:
            refusals.append(self._barred(error.where, error))
            raise NotOpenedError(str(error)) from None

    def _outcome(
        self,
        added: Added,
        layout: Layout,
        refusals: list[Refusal],
        weights: Mapping[str, Tensor],
        size: int,
    ) -> RoundOutcome:
        patients = layout.patients(added.total)
        accepted = [
            SpooledUpdate(
                site=site,
                num_examples=self.roster.patients[site],
                loss=0.0,
                seconds=checked.metrics[m.SECONDS],
                bytes=checked.bytes,
                norm=0.0,
                digest="",
                file=io.BytesIO(),
            )
            for site, checked in sorted(added.checked.items())
        ]
        after = self._moved(_mean(added.total, layout, weights, patients), patients, weights)
        loss = layout.mean_loss(added.total)
        return RoundOutcome(after, loss, tuple(accepted), tuple(refusals), size)

    def _ask(
        self,
        kind: str,
        session: Session,
        records: Mapping[str, ConfigRecord],
        refusals: list[Refusal],
    ) -> Iterator[tuple[str, Mapping[str, object]]]:
        """Ask some sites something without arrays; gives site and record of each answer that has its form."""
        messages = []
        for site, record in records.items():
            config = ConfigRecord({m.STUDY_HASH: self.study.hash, m.ROUND: self.place.round})
            content = RecordDict({m.CONFIG: config, m.MASKING: record})
            messages.append(Message(content, self.roster.node_of[site], kind))
        names = self.roster.name_of(list(records))
        for found in self.desk.ask(messages, names, self.place.round, kind):
            if isinstance(found, Refusal):
                refusals.append(found)
                continue
            try:
                yield found.site, self._record(kind, found, session)
            except (NetworkError, *UNREADABLE) as error:
                refusals.append(self._barred(found.site, error))

    def _record(self, kind: str, answer: Answer, session: Session) -> Mapping[str, object]:
        record: Mapping[str, object] = dict(answer.message.content.config_records[m.MASKING])
        f.check_answer(kind, record)
        del answer.message.content[m.MASKING]
        check_reply(answer.message, Expected(answer.site, self.study.hash, self.place.round))
        if f.text(record, f.SESSION) != session.token:
            raise NetworkError("MMF-456", "it belongs to another attempt at this round", answer.site)
        return record

    def _barred(self, site: str, error: Exception) -> Refusal:
        self.barred.add(site)
        return self.desk.refused(site, error, self.place.round)

    def _enough(self, count: int, least: int, did: str) -> None:
        if count < least:
            raise NotOpenedError(f"{count} sites {did}, {least} must")


def _own_keys(record: Mapping[str, object], site: str, session: Session) -> PeerKeys:
    (keys,) = f.read_peers(record)
    fault = keys.fault(session) if keys.site == site else "it shows another site's keys"
    if fault:
        raise NetworkError("MMF-385", fault, site)
    return keys


def _mean(total: Vector, layout: Layout, weights: Mapping[str, Tensor], patients: int) -> Iterator[Piece]:
    """The weights that were sent plus the mean change, some numbers at a time, sorted by name."""
    for name, part in layout.parts(total):
        sent = weights[name].numpy()
        for start in range(0, max(part.size, 1), PIECE):
            change = layout.changes.decode(part[start : start + PIECE]) / patients
            values = (sent.reshape(-1)[start : start + PIECE] + change).astype(sent.dtype)
            whole = part.size <= PIECE
            yield Piece(name, None if whole else start, values.reshape(sent.shape) if whole else values)


__all__ = ["MaskedRound", "NotOpenedError"]
