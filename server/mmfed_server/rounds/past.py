"""What is remembered of each site's updates of a stage; kept in the state, so that a resume decides alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mmfed_server.guard.norms import MOST_PAST
from mmfed_server.rounds.spool import SpooledUpdate


@dataclass(frozen=True)
class SitePasts:
    """The past of all sites; it shares its content with the run's state.

    Attributes
    ----------
    norms
        Site → Euclidean lengths of its last updates of this stage, the newest last.
    digests
        Site → SHA-256 of its last update's arrays.
    """

    norms: dict[str, list[float]]
    digests: dict[str, str]

    def is_replay(self, site: str, digest: str, norm: float) -> bool:
        """Tell whether a site sent the same arrays again, although the weights that it was sent differ.

        An update that changes nothing repeats the weights that were sent, and is no replay.
        """
        return norm > 0 and self.digests.get(site) == digest

    def add(self, updates: Iterable[SpooledUpdate]) -> None:
        """Remember updates that were taken."""
        for update in updates:
            self.norms[update.site] = [*self.norms.get(update.site, []), update.norm][-MOST_PAST:]
            self.digests[update.site] = update.digest

    def forget(self) -> None:
        """Begin a new stage."""
        self.norms.clear()
        self.digests.clear()
