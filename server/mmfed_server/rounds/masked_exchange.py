"""The steps of secure aggregation between the server and some sites, whatever it is that they sum.

Keys, sealed shares, masked vectors, agreement, opening (Bonawitz et al. 2017): a site may drop out before
each step. Masked vectors are added into one as they come and not kept. Where fewer sites are left than the
threshold, or than the study's least, nothing is opened.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from flwr.app import ConfigRecord, Message, RecordDict

from mmfed_common import messages as m
from mmfed_common.arrays import Shapes
from mmfed_common.errors import NetworkError
from mmfed_common.masking import fields as f
from mmfed_common.masking.fixed_point import MOST_SITES
from mmfed_common.masking.keys import PeerKeys, Session, agrees_with_all
from mmfed_common.masking.rules import LEAST_PEERS
from mmfed_common.masking.stream import AddsMasks, Vector, add_masks
from mmfed_common.study import Study
from mmfed_server.guard import Checked, Expected, check_reply, each_array_in_place
from mmfed_server.masking.parties import Parties, tags_for
from mmfed_server.rounds.desk import UNREADABLE, Desk
from mmfed_server.rounds.exchange import Answer, Refusal, forget_arrays
from mmfed_server.rounds.roster import Roster


class OpenedSums(Protocol):
    """Remembers, also after the server was killed, of which sites a round's sum was opened."""

    def note_opened(self, round_number: int, sites: tuple[str, ...]) -> None:
        """Note it before they are asked."""

    def opened(self, round_number: int) -> tuple[str, ...]:
        """Give the sites; empty where none were asked."""


class NotOpenedError(Exception):
    """An attempt ended before its sum was opened; the text says why."""


@dataclass
class MaskedExchange:
    """Lets sites sum something, again and again from new keys.

    Attributes
    ----------
    study, desk, roster
        The study, the way to the sites, who is there.
    round
        Its number; 0 before the first.
    sums
        Remembers which sites were asked to open a sum of this round. They do so once: another attempt is for
        the very same sites, whatever they did, or for nobody.
    barred
        Sites whose answers broke the protocol: they are left out of the further attempts.
    """

    study: Study
    desk: Desk
    roster: Roster
    round: int
    sums: OpenedSums
    barred: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.opened = self.sums.opened(self.round)

    @property
    def least(self) -> int:
        """With how many sites an attempt begins."""
        return max(self.study.aggregation.minimum_sites, LEAST_PEERS)

    def begin(self, chosen: Collection[str], refusals: list[Refusal]) -> Parties:
        """Let sites show their keys and seal shares for each other.

        Raises
        ------
        NotOpenedError
            When too few do.
        """
        session = Session(self.study.hash, self.round, secrets.token_hex(16))
        wanted = list(self.opened) or [site for site in chosen if site not in self.barred][:MOST_SITES]
        self._refuse_without_opened(chosen)
        self._enough(len(wanted), self.least, "take part")
        found: dict[str, PeerKeys] = {}
        taken: set[tuple[str, str | bytes]] = set()
        enrolled = self.desk.enrolled_keys()
        asked = {site: f.config({f.SESSION: session.token}) for site in wanted}
        for site, record in self._ask(m.MASK_KEYS, session, asked, refusals):
            try:
                found[site] = _own_keys(record, site, session, enrolled, taken)
                taken |= found[site].parts
            except (NetworkError, *UNREADABLE) as error:
                refusals.append(self._bar(site, error))
        self._refuse_without_opened(found)
        self._enough(len(found), self.least, "showed keys")
        parties = Parties.of(session, list(found.values()), self.study.aggregation.secure_threshold)
        self._shares(parties, refusals)
        return parties

    def give(self, parties: Parties, message: Message, site: str) -> None:
        """Add to a request for a masked vector what the site needs for its masks."""
        record = {
            f.SESSION: parties.session.token,
            f.SITES: parties.senders,
            f.SEALED: parties.sealed_for(site),
        }
        message.content = RecordDict({**dict(message.content), m.MASKING: f.config(record)})

    def add(
        self,
        parties: Parties,
        answers: Iterable[Answer | Refusal],
        metrics: tuple[str, ...],
        arrays: Shapes,
        add: Callable[[Vector], None],
        refusals: list[Refusal],
    ) -> dict[str, Checked]:
        """Add masked vectors as they come.

        Parameters
        ----------
        metrics, arrays
            What an answer holds, besides a number of patients of 0: one array.
        add
            Adds a vector to the sum.

        Returns
        -------
        Site → what is known of its answer.

        Raises
        ------
        NotOpenedError
            When too few come.
        """
        checked = {}
        for found in answers:
            if isinstance(found, Refusal):
                refusals.append(found)
                continue
            expected = Expected(found.site, self.study.hash, self.round, metrics, arrays, num_examples=0)
            try:
                known = check_reply(found.message, expected)
                ((_, vector),) = each_array_in_place(found.message, expected)
                add(vector)
                checked[found.site] = known
                parties.alive.add(found.site)
            except (NetworkError, *UNREADABLE) as error:
                refusals.append(self._bar(found.site, error))
            finally:
                forget_arrays(found.message)
        least = max(parties.threshold, self.study.aggregation.minimum_sites)
        self._refuse_without_opened(parties.alive)
        self._enough(len(parties.alive), least, "sent masked numbers")
        return checked

    def open(
        self, parties: Parties, total: Vector, refusals: list[Refusal], add: AddsMasks = add_masks
    ) -> None:
        """Let the sites that are left agree on the sum and give the shares that open it; unmask it in place.

        Raises
        ------
        NotOpenedError
            When too few do, or one of them may not take part any more.
        """
        self._refuse_who_left(parties, refusals)
        self._agree(parties, refusals)
        try:
            wrong = parties.unmask(total, add)
        except NetworkError as error:
            refusals.append(self._bar(error.where, error))
            raise NotOpenedError(str(error)) from None
        refusals += [self._about_shares(site, of, parties.threshold) for site, of in sorted(wrong.items())]

    def refuse_impossible(self, parties: Parties, refusals: list[Refusal]) -> NotOpenedError:
        """What to raise for a sum that sites cannot have; nobody can say whose numbers were wrong."""
        what = "it is one of those whose sum is not one that sites can have"
        refusals += [Refusal(site, "MMF-391", what) for site in sorted(parties.alive)]
        return NotOpenedError("MMF-391 the sum is not one that sites can have")

    def _shares(self, parties: Parties, refusals: list[Refusal]) -> None:
        listed = {
            f.SESSION: parties.session.token,
            f.THRESHOLD: parties.threshold,
            **f.write_peers(list(parties.peers.values())),
        }
        asked = {site: f.config(listed) for site in parties.peers}
        for site, record in self._ask(m.MASK_SHARES, parties.session, asked, refusals):
            sealed = f.items(record, f.SEALED)
            if len(sealed) != len(parties.peers):
                refusals.append(self._bar(site, NetworkError("MMF-392", "it sealed too few", site)))
            else:
                parties.sealed[site] = sealed
        self._refuse_without_opened(parties.sealed)
        self._enough(len(parties.sealed), max(self.least, parties.threshold), "gave shares")

    def _refuse_who_left(self, parties: Parties, refusals: list[Refusal]) -> None:
        """A site that may not take part any more is in the sum already: then it is not opened."""
        out, enrolled = self.desk.quarantined(), self.desk.enrolled()
        left = [site for site in sorted(parties.alive) if site in out or site not in enrolled]
        refusals += [Refusal(site, out.get(site, "MMF-463"), "it left during the round") for site in left]
        if left:
            raise NotOpenedError(f"{', '.join(left)} left during the round")

    def _agree(self, parties: Parties, refusals: list[Refusal]) -> None:
        token, alive = parties.session.token, sorted(parties.alive)
        asked = {site: f.config({f.SESSION: token, f.ALIVE: alive, f.GONE: parties.gone}) for site in alive}
        tags: dict[str, list[bytes]] = {}
        for site, record in self._ask(m.MASK_AGREE, parties.session, asked, refusals):
            given = f.items(record, f.TAGS)
            if len(given) == len(alive):
                tags[site] = given
        self._enough(len(tags), parties.threshold, "agreed to the sum")
        self.opened = tuple(alive)
        self.sums.note_opened(self.round, self.opened)
        asked = {
            site: f.config({f.SESSION: token, f.SITES: list(tags), f.TAGS: tags_for(site, alive, tags)})
            for site in tags
        }
        for site, record in self._ask(m.MASK_OPEN, parties.session, asked, refusals):
            shares = f.items(record, f.SHARES)
            if len(shares) == len(parties.senders):
                parties.shares[site] = shares
        self._enough(len(parties.shares), parties.threshold, "opened the sum")

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
            config = ConfigRecord({m.STUDY_HASH: self.study.hash, m.ROUND: self.round})
            content = RecordDict({m.CONFIG: config, m.MASKING: record})
            messages.append(Message(content, self.roster.node_of[site], kind))
        names = self.roster.name_of(list(records))
        for found in self.desk.ask(messages, names, self.round, kind):
            if isinstance(found, Refusal):
                refusals.append(found)
                continue
            try:
                yield found.site, self._record(kind, found, session)
            except (NetworkError, *UNREADABLE) as error:
                refusals.append(self._bar(found.site, error))

    def _record(self, kind: str, answer: Answer, session: Session) -> Mapping[str, object]:
        record: Mapping[str, object] = dict(answer.message.content.config_records[m.MASKING])
        f.check_answer(kind, record)
        del answer.message.content[m.MASKING]
        check_reply(answer.message, Expected(answer.site, self.study.hash, self.round))
        if f.text(record, f.SESSION) != session.token:
            raise NetworkError("MMF-456", "it belongs to another attempt at this round", answer.site)
        return record

    def _bar(self, site: str, error: Exception) -> Refusal:
        self.barred.add(site)
        return self.desk.refused(site, error, self.round)

    def _about_shares(self, site: str, of: set[str], threshold: int) -> Refusal:
        """What becomes of a site with wrong shares: it is to blame if more dealt them than can be false."""
        names = ", ".join(sorted(of)[:3]) + (" and others" if len(of) > 3 else "")
        if len(of) >= threshold:
            return self._bar(site, NetworkError("MMF-392", f"its shares of {names} are wrong", site))
        return Refusal(site, "MMF-392", f"its shares of {names} are wrong, or were dealt to it wrong")

    def _refuse_without_opened(self, there: Collection[str]) -> None:
        """A sum of this round was asked for: then all of its sites must be there, and no other is of use."""
        if missing := sorted(set(self.opened) - set(there)):
            what = f"round {self.round} was opened for {len(self.opened)} sites and is for no others"
            raise NotOpenedError(f"{what}; missing: {', '.join(missing[:10])}")

    def _enough(self, count: int, least: int, did: str) -> None:
        if count < least:
            raise NotOpenedError(f"{count} sites {did}, {least} must")


def _own_keys(
    record: Mapping[str, object],
    site: str,
    session: Session,
    enrolled: Mapping[str, bytes] | None,
    taken: Collection[tuple[str, str | bytes]],
) -> PeerKeys:
    """A site's keys, if its peers will take them: one that shows others would stop the round for all."""
    (keys,) = f.read_peers(record)
    fault = keys.fault(session) if keys.site == site else "it shows another site's keys"
    if not fault and enrolled is not None and enrolled.get(site) != keys.enrolled.encode():
        fault = "its key is not the one that it was enrolled with"
    if not fault and (agrees_with_all(keys.sealing) or agrees_with_all(keys.masking)):
        fault = "one of its keys agrees with every key"
    if not fault and not keys.parts.isdisjoint(taken):
        fault = "it shows a key that another site has"
    if fault:
        raise NetworkError("MMF-385", fault, site)
    return keys
