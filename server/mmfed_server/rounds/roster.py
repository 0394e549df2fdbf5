"""Who is there: which node is which site, and on how many patients it can train."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Mapping, Sequence

from flwr.app import RecordDict

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.randomness import numpy_generator
from mmfed_common.study import Study
from mmfed_server.guard import Expected, check_reply
from mmfed_server.rounds.desk import UNREADABLE, Desk
from mmfed_server.rounds.exchange import Answer, Refusal, exchange, request

POLL_SECONDS = 0.05
SETTLE_SECONDS = 10.0
"""How long no further node may come before a run begins with fewer than are enrolled."""
LAST_WORD_SECONDS = 5.0
"""Most seconds to wait that a site in quarantine has heard why; what it answers is dropped."""
MOST_TIMES_THE_MEDIAN = 100
"""A site that counts more patients than so many times the median of the others is not believed."""


class Roster:
    """Maps enrolled sites to nodes, by asking the nodes.

    Parameters
    ----------
    study
        The study; sites with another are refused.
    enrolled
        Names of the sites that may take part.
    """

    def __init__(self, study: Study, enrolled: Collection[str]) -> None:
        self.study = study
        self.enrolled = tuple(sorted(enrolled))
        self.node_of: dict[str, int] = {}
        self.patients: dict[str, int] = {}
        self.announced: dict[str, int] = {}
        self.told: set[str] = set()

    @property
    def eligible(self) -> tuple[str, ...]:
        """Sites that are there and reach the study's floor of patients, sorted."""
        return tuple(sorted(site for site in self.node_of if self.patients[site] > 0))

    @property
    def below_floor(self) -> tuple[str, ...]:
        """Sites that are there and take no part because they are too small, sorted."""
        return tuple(sorted(site for site in self.node_of if self.patients[site] == 0))

    @property
    def absent(self) -> tuple[str, ...]:
        """Enrolled sites that are not there, sorted."""
        return tuple(site for site in self.enrolled if site not in self.node_of)

    def name_of(self, sites: Sequence[str]) -> dict[int, str]:
        """Node → site, of some sites."""
        return {self.node_of[site]: site for site in sites}

    def wait(self, desk: Desk) -> None:
        """Wait until as many nodes are there as sites are enrolled and not in quarantine.

        It goes on without the others when enough for a round are there and no more come for a while, and at
        the latest after one deadline.
        """
        rule = self.study.aggregation
        give_up = time.monotonic() + rule.deadline_seconds
        found, since = 0, time.monotonic()
        while (now := time.monotonic()) < give_up:
            desk.refuse_to_go_on_when_stopped()
            barred = desk.quarantined()
            there = len(self._nodes(desk, barred))
            if there >= len(set(self.enrolled) - barred.keys()):
                return
            if there > found:
                found, since = there, now
            elif found >= rule.minimum_sites and now - since > SETTLE_SECONDS:
                return
            time.sleep(POLL_SECONDS)

    def refresh(self, desk: Desk, round_number: int = 0) -> list[Refusal]:
        """Forget nodes that are gone and ask new ones who they are; gives what was wrong with some.

        Sites in quarantine are told so once, and asked nothing until it is lifted.
        """
        barred = self.leave_out(desk)
        self._tell(desk, barred)
        nodes = set(self._nodes(desk, barred))
        still = {site: node for site, node in self.node_of.items() if node in nodes}
        self.node_of = {site: node for site, node in still.items() if site in self.enrolled}
        unknown = sorted(nodes - set(still.values()))
        if not unknown:
            return []
        answers, unanswered = self._hello(desk, unknown)
        refusals = [desk.noted(found, round_number) for found in unanswered]
        for answer in answers:
            try:
                site = self._name(answer.message.content)
                desk.verify(site, answer)
                checked = check_reply(answer.message, Expected(site, self.study.hash, 0))
                self._add(site, answer.node, checked.num_examples)
            except (NetworkError, *UNREADABLE) as error:
                refusals.append(desk.refused(answer.site, error, round_number))
        return refusals + self._refuse_implausible(desk, round_number)

    def leave_out(self, desk: Desk) -> Mapping[str, str]:
        """Leave out at once who may not take part any more; gives the sites in quarantine, and why."""
        barred = desk.quarantined()
        self.enrolled = tuple(sorted(desk.enrolled() - barred.keys()))
        self.node_of = {site: node for site, node in self.node_of.items() if site not in barred}
        for site in self.told - barred.keys():
            desk.notices.pop(site, None)
        self.told &= barred.keys()
        return barred

    def _nodes(self, desk: Desk, barred: Collection[str]) -> list[int]:
        return [node for node in desk.grid.get_node_ids() if desk.site_of(node) not in barred]

    def _tell(self, desk: Desk, barred: Mapping[str, str]) -> None:
        """Tell sites in quarantine why, once; again only when they were away in between."""
        if not barred:
            return
        there = {desk.site_of(node): node for node in desk.grid.get_node_ids()}
        self.told &= there.keys()
        nodes = sorted(there[site] for site in barred if site in there and site not in self.told)
        if not nodes:
            return
        names = {node: desk.site_of(node) for node in nodes}
        desk.notices.update({site: barred[site] for site in names.values()})
        requests = [request(m.HELLO, node, self.study.hash, 0) for node in nodes]
        desk.address(requests, names)
        exchange(desk.grid, requests, names, min(LAST_WORD_SECONDS, desk.deadlines.hello_seconds()))
        self.told.update(names.values())

    def _hello(self, desk: Desk, nodes: Sequence[int]) -> tuple[list[Answer], list[Refusal]]:
        """Ask nodes for their names; until one is proven, what is wrong is said of the connection."""
        names = {node: desk.site_of(node) or f"node {node}" for node in nodes}
        requests = [request(m.HELLO, node, self.study.hash, 0) for node in nodes]
        desk.address(requests, names)
        return exchange(desk.grid, requests, names, desk.deadlines.hello_seconds())

    def _name(self, content: RecordDict) -> str:
        site = content.config_records[m.ABOUT].get(m.SITE) if m.ABOUT in content.config_records else None
        if not isinstance(site, str) or site not in self.enrolled:
            raise NetworkError("MMF-463", "the site is not enrolled in this run")
        return site

    def _add(self, site: str, node: int, patients: int) -> None:
        if site in self.node_of:
            raise NetworkError("MMF-464", "two nodes say that they are this site")
        first = self.announced.get(site, 0)
        if first and patients and patients != first:
            reason = f"it counts {patients} patients, and counted {first} when the run began"
            raise NetworkError("MMF-454", reason)
        self.node_of[site] = node
        self.patients[site] = patients
        self.announced[site] = first or patients

    def _refuse_implausible(self, desk: Desk, round_number: int) -> list[Refusal]:
        refusals: list[Refusal] = []
        if self.study.aggregation.secure:  # some may hide their counts, and those in the sum decide
            return refusals
        for site in self.eligible:
            others = [self.patients[other] for other in self.eligible if other != site]
            if len(others) < 2 or self.patients[site] <= MOST_TIMES_THE_MEDIAN * statistics.median(others):
                continue
            reason = f"{self.patients[site]} patients, over {MOST_TIMES_THE_MEDIAN} times the others' median"
            refusals.append(desk.refused(site, NetworkError("MMF-454", reason), round_number))
        for refusal in refusals:
            del self.node_of[refusal.site]
            self.announced.pop(refusal.site)
        return refusals


def sample_sites(study: Study, eligible: Sequence[str], round_number: int, attempt: int) -> tuple[str, ...]:
    """Choose the sites of a round: all of them, or a fraction, the same whenever it is drawn again.

    Parameters
    ----------
    attempt
        Counted from 0; a repeated round draws other sites.
    """
    rule = study.aggregation
    ordered = sorted(eligible)
    if rule.fraction >= 1.0:
        return tuple(ordered)
    wanted = min(len(ordered), max(rule.minimum_sites, round(rule.fraction * len(ordered))))
    generator = numpy_generator(study.study.seed, "sample", round_number, attempt)
    chosen = generator.choice(len(ordered), size=wanted, replace=False)
    return tuple(ordered[i] for i in sorted(chosen.tolist()))
