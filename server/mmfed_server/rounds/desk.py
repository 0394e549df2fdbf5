"""The run's dealings with its sites: every request goes out here, and every refusal is noted here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError, StudyError
from mmfed_server.plan import RunPlan
from mmfed_server.rounds.deadline import Deadlines
from mmfed_server.rounds.exchange import (
    Answer,
    Refusal,
    StreamingGrid,
    answers_of,
    forget_arrays,
    late_answers,
)

UNREADABLE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What code raises that reads a stranger's bytes and did not think of everything; the run goes on."""

REFUSED_ON_THE_WAY = ("MMF-458", "MMF-466", "MMF-487")
"""A second answer, one that is too long, and bytes that came whole and are no message: the site's doing, and
seen before the answer is read."""


@dataclass
class Desk:
    """Sends requests under a deadline and checks of each answer that it is its site's.

    Attributes
    ----------
    grid, plan
        The way to the sites, and the run.
    deadlines
        How long to wait.
    notices
        Site → code of its last refusal, which its next request carries.
    told
        (site, round) pairs of which ``on_refusal`` has been told: a round that is repeated counts once.
    """

    grid: Grid
    plan: RunPlan
    deadlines: Deadlines
    notices: dict[str, str] = field(default_factory=dict)
    told: set[tuple[str, int]] = field(default_factory=set)

    def ask(
        self, messages: list[Message], names: Mapping[int, str], round_number: int, timed_as: str
    ) -> Iterator[Answer | Refusal]:
        """Send, and give an answer or a refusal for each message as they come.

        Parameters
        ----------
        messages
            Emptied.
        timed_as
            Exchanges of the same name take about the same time.

        Raises
        ------
        StudyError
            ``MMF-521`` when the run was told to stop.
        """
        self.refuse_to_go_on_when_stopped()
        self.address(messages, names)
        for found in answers_of(self.grid, messages, names, self.deadlines.seconds(timed_as)):
            if isinstance(found, Answer):
                self.deadlines.measured(timed_as, found.seconds)
                yield self._verified(found, round_number)
            else:
                yield self.noted(found, round_number)
        yield from late_answers(self.grid)

    def address(self, messages: Iterable[Message], names: Mapping[int, str]) -> None:
        """Add to each message what is meant for its site alone: a notice, and what is known of its ledger."""
        for message in messages:
            site = names[message.metadata.dst_node_id]
            own: dict[str, str | int] = {}
            if site in self.notices:
                own[m.NOTICE] = self.notices[site]
            if self.plan.ledger_known is not None:
                own[m.LEDGER_KNOWN] = self.plan.ledger_known(site)
            if own:
                config = ConfigRecord({**dict(message.content.config_records[m.CONFIG]), **own})
                message.content = RecordDict({**dict(message.content), m.CONFIG: config})

    def verify(self, site: str, answer: Answer) -> None:
        """Check that an answer came by the site's own connection and under its seal.

        Raises
        ------
        NetworkError
            ``MMF-457`` for another site's connection, ``MMF-416`` for another's seal or none.
        """
        if self.site_of(answer.node) not in ("", site):
            raise NetworkError("MMF-457", "it came by another site's connection", site)
        if self.plan.seals is not None:
            self.plan.seals(site, answer.message)

    def site_of(self, node: int) -> str:
        """The site that a node's key belongs to; empty where the grid does not know."""
        return self.grid.site_of(node) if isinstance(self.grid, StreamingGrid) else ""

    def enrolled(self) -> frozenset[str]:
        """Sites that are enrolled at this moment, those in quarantine included."""
        return frozenset(self.plan.sites if self.plan.sites_now is None else self.plan.sites_now())

    def enrolled_keys(self) -> Mapping[str, bytes] | None:
        """Site → the public key (PEM) that it is enrolled with at this moment; None where nobody enrols."""
        return None if self.plan.keys_now is None else self.plan.keys_now()

    def quarantined(self) -> Mapping[str, str]:
        """Sites in quarantine at this moment, and why."""
        return {} if self.plan.quarantined is None else self.plan.quarantined()

    def noted(self, found: Refusal, round_number: int) -> Refusal:
        """Count what was refused on its way here; that no answer came is not counted."""
        if found.code not in REFUSED_ON_THE_WAY:
            return found
        return self.refused(found.site, NetworkError(found.code, found.reason), round_number)

    def refused(self, site: str, error: Exception, round_number: int) -> Refusal:
        """Note that an answer of a site was refused: it is told, and so is the plan."""
        code, reason = "MMF-450", f"it cannot be read ({type(error).__name__})"
        if isinstance(error, NetworkError):
            code, reason = error.code, error.what
        enrolled = self.enrolled()
        if site in enrolled or site not in self.notices:  # who is out hears why, not that it is out
            self.notices[site] = code
        if self.plan.on_refusal is not None and site in enrolled and (site, round_number) not in self.told:
            self.told.add((site, round_number))
            self.plan.on_refusal(site, code, reason)
        return Refusal(site, code, reason)

    def taken(self, site: str) -> None:
        """Note that an update of a site was taken."""
        self.notices.pop(site, None)
        if self.plan.on_success is not None:
            self.plan.on_success(site)

    def refuse_to_go_on_when_stopped(self) -> None:
        """Raise ``MMF-521`` when the run was told to stop."""
        if self.plan.stop is not None and self.plan.stop.is_set():
            raise StudyError("MMF-521", "the run was told to stop")

    def _verified(self, answer: Answer, round_number: int) -> Answer | Refusal:
        try:
            self.verify(answer.site, answer)
        except (NetworkError, *UNREADABLE) as error:
            forget_arrays(answer.message)
            return self.refused(answer.site, error, round_number)
        return answer
