"""How long to wait for answers: enough for the slowest site so far, never longer than the study says."""

from __future__ import annotations

FACTOR = 4.0
SLACK_SECONDS = 30.0
FIRST_HELLO_SECONDS = 300.0
"""A site that was never heard of may be opening its tables."""


class Deadlines:
    """Gives the deadline of each kind of exchange.

    Parameters
    ----------
    cap
        The study's ``deadline_seconds``; it holds until a time has been measured.
    """

    def __init__(self, cap: float) -> None:
        self.cap = cap
        self._slowest: dict[str, float] = {}

    def seconds(self, kind: str) -> float:
        """Seconds to wait: four times the slowest answer so far and half a minute, at most the cap."""
        if kind not in self._slowest:
            return self.cap
        return min(self.cap, FACTOR * self._slowest[kind] + SLACK_SECONDS)

    def hello_seconds(self) -> float:
        """Seconds to wait for a site's name."""
        return min(self.cap, FIRST_HELLO_SECONDS)

    def measured(self, kind: str, seconds: float) -> None:
        """Note how long an answer took."""
        self._slowest[kind] = max(seconds, self._slowest.get(kind, 0.0))
