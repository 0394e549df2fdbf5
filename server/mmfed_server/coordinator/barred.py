"""Who is kept out of a run at this moment, and whether the run itself is to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from mmfed_common.errors import MmfedError
from mmfed_server.federation import SiteRegistry
from mmfed_server.record.catalogue import RunCatalogue, RunSummary
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
    """Set when the process is to stop, or when another run is to replace this one.

    Parameters
    ----------
    process
        The process's own sign.
    catalogue, run
        Where a replacement is noted; looked at once a second at most.
    """

    def __init__(self, process: threading.Event, catalogue: RunCatalogue, run: str) -> None:
        self.process, self.catalogue, self.run = process, catalogue, run
        self._due = 0.0
        self._superseded = False

    def is_set(self) -> bool:
        """Whether the run is to end now."""
        if self.process.is_set() or self._superseded:
            return True
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + LOOK_SECONDS
            try:
                self._superseded = self.catalogue.superseded(self.run)
            except MmfedError:
                return False  # the run's own next use of the database says what is wrong with it
        return self._superseded
