"""How long a node may say nothing before it counts as hung."""

from __future__ import annotations

import time
from collections.abc import Callable

from mmfed_client.status import State

OPENING_SECONDS = 3600.0
SILENT_SECONDS = 180.0
MORE_THAN_DEADLINE_SECONDS = 120.0


class Patience:
    """Notes when the node last said something.

    Parameters
    ----------
    deadline
        The study's deadline of a round in seconds: what takes longer, the server has given up.
    clock
        Seconds that never go back.
    """

    def __init__(self, deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.deadline = deadline
        self._clock = clock
        self._last = clock()

    def heard(self) -> None:
        """Note that the node said something."""
        self._last = self._clock()

    def exhausted(self, state: State) -> float:
        """Seconds of silence if they are too many for what the node is doing, else 0."""
        limits = {
            State.opening: OPENING_SECONDS,
            State.working: self.deadline + MORE_THAN_DEADLINE_SECONDS,
        }
        silent = self._clock() - self._last
        return silent if silent > limits.get(state, SILENT_SECONDS) else 0.0
