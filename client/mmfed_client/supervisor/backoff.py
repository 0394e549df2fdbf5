"""How long to wait before something that failed is tried again: 1, 2, 4 … 20 seconds, for ever."""

from __future__ import annotations

FIRST_SECONDS = 1.0
MOST_SECONDS = 20.0


class Backoff:
    """Counts failures in a row.

    Parameters
    ----------
    first, most
        Seconds before the second attempt, and at most between two.
    """

    def __init__(self, first: float = FIRST_SECONDS, most: float = MOST_SECONDS) -> None:
        self.first = first
        self.most = most
        self.failures = 0

    def failed(self) -> float:
        """Note a failure; gives the seconds to wait."""
        self.failures += 1
        return min(self.most, self.first * 2.0 ** min(self.failures - 1, 30))

    def worked(self) -> None:
        """Forget the failures."""
        self.failures = 0
