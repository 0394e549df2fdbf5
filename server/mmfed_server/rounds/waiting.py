"""Waiting for sites: bounded in a simulation, for as long as it takes at a coordinator, and never silent."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mmfed_server.record.record import RunRecord
from mmfed_server.rounds.desk import Desk
from mmfed_server.rounds.exchange import Refusal
from mmfed_server.rounds.roster import POLL_SECONDS, Roster

LOOK_SECONDS = 5.0
"""How often sites that are there are looked at again, when no new one came."""
LONGEST_PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class Waiting:
    """Waits for enough sites, and says in the record's status for whom.

    Attributes
    ----------
    desk, roster, record
        The way to the sites, who is there, and where to say it.
    """

    desk: Desk
    roster: Roster
    record: RunRecord

    @property
    def least(self) -> int:
        """How many sites a round needs."""
        return self.roster.study.aggregation.minimum_sites

    def for_sites(self) -> list[Refusal]:
        """Wait before the first round; gives what was wrong with some nodes.

        In a plan that is patient it returns when enough sites take part, otherwise also when the study's
        deadline has passed.

        Raises
        ------
        StudyError
            ``MMF-521`` when the run was told to stop.
        """
        patient = self.desk.plan.wait_for_sites == "patient"
        if patient:
            self._say("the run has not begun")
        self.roster.wait(self.desk)
        refusals = self.roster.refresh(self.desk)
        while patient and len(self.roster.eligible) < self.least:
            self._say("too few sites are there", refusals)
            self._pause(LOOK_SECONDS)
            refusals = self.roster.refresh(self.desk) or refusals
        return refusals

    def after_too_few(self, what: str, failures: int) -> None:
        """Wait after a round that too few sites answered, longer each time, and until enough are there."""
        self.record.event("waiting", code="MMF-533", missing=list(self.roster.absent))
        self._say(what)
        self._pause(min(LONGEST_PAUSE_SECONDS, 2.0 ** min(failures - 1, 6)))
        self.roster.refresh(self.desk)
        while len(self.roster.eligible) < self.least:
            self._say(what)
            self._pause(LOOK_SECONDS)
            self.roster.refresh(self.desk)

    def _say(self, reason: str, refusals: list[Refusal] | None = None) -> None:
        self.record.write_status(
            "waiting",
            "MMF-533",
            reason,
            needed=self.least,
            present=list(self.roster.eligible),
            below_floor=list(self.roster.below_floor),
            missing=list(self.roster.absent),
            refused={refusal.site: str(refusal) for refusal in refusals or ()},
        )

    def _pause(self, seconds: float) -> None:
        """Wait for a while, or until other nodes are there than now."""
        nodes = set(self.desk.grid.get_node_ids())
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.desk.refuse_to_go_on_when_stopped()
            if set(self.desk.grid.get_node_ids()) != nodes:
                return
            time.sleep(POLL_SECONDS)
