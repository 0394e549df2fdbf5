"""Is an update as large as updates are? Compared with the other sites' and with the site's own past.

A site is compared with the median of the others, which no single site can move far (Blanchard et al. 2017 and
Yin et al. 2018 use medians for the same reason). The bound is wide: honest sites differ in size and data, and
a refusal changes the result; what it stops is an update that would drown the others. Adam's steps have about
the same length whatever the loss, so that an update grows with the number of steps: a larger site is allowed
more in the same proportion.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmfed_common.study import Training

FACTOR_OF_OTHERS = 10.0
FACTOR_OF_PAST = 20.0
LEAST_OTHERS = 2
"""With a single other site nobody can tell which of the two is wrong."""
LEAST_PAST = 3
MOST_PAST = 8
"""How many of a site's rounds are remembered."""


@dataclass(frozen=True)
class UpdateNorm:
    """The Euclidean length of what an update changes, and in how many local steps it did so."""

    site: str
    norm: float
    steps: int


def steps_of(training: Training, patients: int) -> int:
    """Local steps that a site with so many training patients takes in a round; at least 1."""
    batches = -(-patients // training.batch) if training.batch else 1
    return max(1, batches * training.local_epochs)


def suspicious_norms(
    updates: Sequence[UpdateNorm], past: Mapping[str, Sequence[float]]
) -> dict[str, tuple[str, str]]:
    """Find updates that are too large.

    Parameters
    ----------
    updates
        Of one round, one for each site.
    past
        Site → norms of its earlier updates of the same stage.

    Returns
    -------
    refusals
        Site → code (``MMF-459``, ``MMF-460``) and reason.
    """
    found = {}
    for update in updates:
        others = [other for other in updates if other.site != update.site]
        before = list(past.get(update.site, ()))[-MOST_PAST:]
        if len(others) >= LEAST_OTHERS and update.norm > (bound := _bound(update, others)) > 0:
            text = f"the change has length {update.norm:.3g}, the others' bound is {bound:.3g}"
            found[update.site] = ("MMF-459", text)
        elif len(before) >= LEAST_PAST and update.norm > (bound := FACTOR_OF_PAST * max(before)) > 0:
            text = f"the change has length {update.norm:.3g}, the bound by its own past is {bound:.3g}"
            found[update.site] = ("MMF-460", text)
    return found


def _bound(update: UpdateNorm, others: Sequence[UpdateNorm]) -> float:
    usual = statistics.median(other.norm for other in others)
    more_steps = update.steps / statistics.median(other.steps for other in others)
    return FACTOR_OF_OTHERS * usual * max(1.0, more_steps)
