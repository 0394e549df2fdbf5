"""What is kept of a run between two rounds: everything that the next round depends on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class SiteTotals:
    """What one site did in a run: rounds taken, seconds of work, bytes of arrays each way, refusals."""

    patients: int = 0
    below_floor: bool = False
    rounds: int = 0
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    refusals: int = 0
    last_refusal: str = ""


@dataclass
class RunState:
    """The state of a run between two rounds.

    Attributes
    ----------
    study_hash
        Whose run this is.
    next_round
        The round to begin next, counted from 1.
    weights
        Global weights.
    first_moment, second_moment
        Flower's ``m_t`` and ``v_t`` of the stage that ``next_round`` goes on with; empty without them.
    scaling
        The federated scaling, as named tensors; empty where the study has none.
    tail
        Mean of the trained weights after the stage's rounds so far that count, float64; see
        ``Stage.tail_averaging``.
    best_weights, best_loss, waited
        Early stopping within the stage: best weights, their validation loss, rounds since.
    history
        One entry for each round.
    sites
        Totals by site.
    contributors
        Site → the first round in which anything of it went into this state, be it an update, or a loss that
        was asked for; 0: the sums of features before round 1.
    norms, digests
        What is remembered of each site's updates of the stage; see :mod:`mmfed_server.rounds.past`.
    events_length
        Bytes of the diary at the time of the commit.
    finished
        Whether the last round has been committed.
    """

    study_hash: str
    next_round: int
    weights: dict[str, Tensor]
    first_moment: dict[str, Tensor] = field(default_factory=dict)
    second_moment: dict[str, Tensor] = field(default_factory=dict)
    scaling: dict[str, Tensor] = field(default_factory=dict)
    tail: dict[str, Tensor] = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float | None = None
    waited: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    sites: dict[str, SiteTotals] = field(default_factory=dict)
    contributors: dict[str, int] = field(default_factory=dict)
    norms: dict[str, list[float]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    events_length: int = 0
    finished: bool = False

    def note_contribution(self, sites: Iterable[str], round_number: int) -> None:
        """Keep the first round in which a site contributed."""
        for site in sites:
            self.contributors.setdefault(site, round_number)
