"""Who is kept out of a run at this moment, and whether the run itself is to end."""

from __future__ import annotations

import time
from collections.abc import Mapping

from mmfed_common.errors import MmfedError
from mmfed_server.federation import SiteRegistry
from mmfed_server.plan import StopSign
from mmfed_server.record.catalogue import RunCatalogue, RunSummary
from mmfed_server.studies.queue import StudyQueue
from mmfed_server.withdrawal.register import LEFT, WITHOUT, Withdrawals

LOOK_SECONDS = 1.0


class Barred:
    """Sites in quarantine, those that have withdrawn from the study, and those that the run does without.

    Parameters
    ----------
    registry, withdrawals
        Asked at each call: both can change while a run goes on.
    run
        Which run.
    """

    def __init__(self, registry: SiteRegistry, withdrawals: Withdrawals, run: RunSummary) -> None:
        self.registry, self.withdrawals, self.run = registry, withdrawals, run

    def __call__(self) -> Mapping[str, str]:
        """Site → code of what keeps it out."""
        left = dict.fromkeys(self.withdrawals.of(self.run.study_hash), LEFT)
        return {**self.registry.quarantined(), **dict.fromkeys(self.run.without, WITHOUT), **left}


class RunStop:
    """Set when the process is to stop, another run is to replace this one, or its study was taken off.

    Parameters
    ----------
    process
        The process's own sign.
    catalogue, run
        Where a replacement is noted.
    queue, study
        Where the study stands as long as it is to run. Both are looked at once a second at most.
    """

    def __init__(
        self, process: StopSign, catalogue: RunCatalogue, run: str, queue: StudyQueue, study: str
    ) -> None:
        self.process, self.catalogue, self.run = process, catalogue, run
        self.queue, self.study = queue, study
        self._due = 0.0
        self._superseded = self._dropped = False

    def is_set(self) -> bool:
        """Whether the run is to end now."""
        return self.process.is_set() or self.superseded() or self.dropped()

    def superseded(self) -> bool:
        """Whether another run is to replace this one."""
        self._look()
        return self._superseded

    def dropped(self) -> bool:
        """Whether the study was taken off the queue."""
        self._look()
        return self._dropped

    def _look(self) -> None:
        if self._superseded or self._dropped or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + LOOK_SECONDS
        try:
            self._superseded = self.catalogue.superseded(self.run)
            self._dropped = not self._superseded and not self.queue.holds(self.study)
        except MmfedError:
            return  # the run's own next use of the database says what is wrong with it
