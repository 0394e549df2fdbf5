"""Who is there: which node is which site, and on how many patients it can train."""

from __future__ import annotations

import time
from collections.abc import Sequence

from flwr.serverapp import Grid

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.randomness import numpy_generator
from mmfed_common.study import Study
from mmfed_server.exchange import Refusal, exchange, request
from mmfed_server.update_check import Expected, check_reply

POLL_SECONDS = 0.05
SETTLE_SECONDS = 10.0
"""How long no further node may come before a run begins with fewer than are enrolled."""


class Roster:
    """Maps enrolled sites to nodes, by asking the nodes.

    Parameters
    ----------
    study
        The study; sites with another are refused.
    enrolled
        Names of the sites that may take part.
    """

    def __init__(self, study: Study, enrolled: Sequence[str]) -> None:
        self.study = study
        self.enrolled = tuple(sorted(enrolled))
        self.node_of: dict[str, int] = {}
        self.patients: dict[str, int] = {}

    @property
    def eligible(self) -> tuple[str, ...]:
        """Sites that are there and reach the study's floor of patients, sorted."""
        return tuple(sorted(site for site in self.node_of if self.patients[site] > 0))

    @property
    def below_floor(self) -> tuple[str, ...]:
        """Sites that are there and take no part because they are too small, sorted."""
        return tuple(sorted(site for site in self.node_of if self.patients[site] == 0))

    def name_of(self, sites: Sequence[str]) -> dict[int, str]:
        """Node → site, of some sites."""
        return {self.node_of[site]: site for site in sites}

    def wait(self, grid: Grid) -> None:
        """Wait until as many nodes are there as sites are enrolled.

        It goes on without the others when enough for a round are there and no more come for a while, and at
        the latest after one deadline.
        """
        rule = self.study.aggregation
        give_up = time.monotonic() + rule.deadline_seconds
        found, since = 0, time.monotonic()
        while found < len(self.enrolled) and (now := time.monotonic()) < give_up:
            there = len(list(grid.get_node_ids()))
            if there > found:
                found, since = there, now
            elif found >= rule.minimum_sites and now - since > SETTLE_SECONDS:
                return
            time.sleep(POLL_SECONDS)

    @property
    def absent(self) -> tuple[str, ...]:
        """Enrolled sites that are not there, sorted."""
        return tuple(site for site in self.enrolled if site not in self.node_of)

    def refresh(self, grid: Grid) -> list[Refusal]:
        """Forget nodes that are gone and ask new ones who they are; gives what was wrong with some."""
        nodes = set(grid.get_node_ids())
        self.node_of = {site: node for site, node in self.node_of.items() if node in nodes}
        unknown = sorted(nodes - set(self.node_of.values()))
        if not unknown:
            return []
        names = {node: f"node {node}" for node in unknown}
        requests = [request(m.HELLO, node, self.study.hash, 0) for node in unknown]
        answers, refusals = exchange(grid, requests, names, self.study.aggregation.deadline_seconds)
        for answer in answers:
            try:
                site = self._name(answer.message.content)
                checked = check_reply(answer.message, Expected(site, self.study.hash, 0))
            except NetworkError as error:
                refusals.append(Refusal(answer.site, error.code, error.what))
                continue
            if site in self.node_of:
                refusals.append(Refusal(site, "MMF-402", "two nodes say that they are this site"))
                continue
            self.node_of[site] = answer.node
            self.patients[site] = checked.num_examples
        return refusals

    def _name(self, content: object) -> str:
        about = content.config_records.get(m.ABOUT, {}) if hasattr(content, "config_records") else {}
        site = about.get(m.SITE)
        if not isinstance(site, str) or site not in self.enrolled:
            raise NetworkError("MMF-402", "the site is not enrolled in this run")
        return site


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
