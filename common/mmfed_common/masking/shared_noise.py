"""Noise that the sites of a masked sum share: each adds a part, and only all parts together are enough.

**What it gives.** In each round every site takes one gradient over all its training patients, clipped patient
by patient, adds its part of the noise and masks it. What comes out is the sum over the sites: a Gaussian
mechanism whose sensitivity is one patient's ``clipping``. The next model follows from sums alone, so rounds
compose as steps of that mechanism with rate 1 (Kairouz et al., "The Distributed Discrete Gaussian Mechanism
for Federated Learning with Secure Aggregation", ICML 2021). Whatever a site did to its own part that is not
adding - a second step, Adam, a clipped length - would make the sum another function than that, so a study
that asks for it is refused. What looks at no patient, as weight decay, the server does after the sum.

**How much each adds.** Of n sites that began a round at least ``t`` must be left for its sum to be opened;
the study says that up to ``c`` of them may help the coordinator or add nothing. So ``h = t − c`` sites'
parts are surely in a sum, and each adds a deviation of ``sigma · clipping / √h``. ``c < 2t − n`` keeps the
coordinator from opening two sums of one attempt: two sets of t sites then have an honest one in common, and
it agrees once. Another attempt has noise of its own, and is paid.

**Whole numbers.** Sums of gradients, in steps of ``clipping · 2⁻²⁶``, and noise are rounded each on its own.
The sum of h rounded normal deviates is distributed as the rounding of ``G + V``, G normal with their variance
together and V the sum of h − 1 uniform numbers that do not depend on it: rounding adds a uniform number to
the density, and summing adds these up. So the sum is made of the ideal mechanism's result without looking at
patients. That holds to within ``exp(−π²s²)`` with deviations of s steps (Poisson's summation formula; where s
is small, see Canonne et al., 2020, arXiv:2004.00010); here s is above 10⁵.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mmfed_common.errors import PrivacyError
from mmfed_common.masking.rules import LEAST_PEERS, threshold_of

if TYPE_CHECKING:
    from mmfed_common.study import Aggregation, Study

LEAST_HONEST = 2
"""With one, its noise alone would have to be enough: that is ``noise = "site"``."""

RANGE = 8.0
"""A mean change of a weight has room for so many times ``clipping`` times the learning rate."""

MOST_PARAMETERS = 2**20
"""With more, rounding (√p · 2⁻²⁶ · C) may lengthen a patient's part by more than clipping leaves room for."""

LARGEST_EXTRA = 2.0**-10
"""Of δ: what the noise's distance from an ideal one may add."""

SPARE = 20
"""One round in so many, rounded up, is planned and paid for on top: for rounds that are broken off."""


def shares_noise(study: Study) -> bool:
    """Whether the sites of a study share the noise of its sums."""
    return study.privacy.mode == "dp" and study.privacy.noise == "shared"


def honest_sites(study: Study, peers: int, threshold: int, where: str = "") -> int:
    """How many sites' noise is surely in a sum that is opened.

    Parameters
    ----------
    peers, threshold
        Sites that began the round, and how many of them open its sum.

    Raises
    ------
    PrivacyError
        ``MMF-397`` when they are too few, or the coordinator could open two sums of the round.
    """
    helping = study.privacy.colluding_sites
    honest = max(threshold, study.aggregation.minimum_sites) - helping
    if honest < LEAST_HONEST or helping >= 2 * threshold - peers:
        what = f"{threshold} of {peers} sites open a sum, and {helping} may help the coordinator"
        raise PrivacyError("MMF-397", what, where)
    return honest


def least_round(rule: Aggregation) -> tuple[int, int]:
    """Sites of the smallest round that a study has, and how many of them open its sum."""
    peers = max(LEAST_PEERS, rule.minimum_sites)
    return peers, threshold_of(rule.secure_threshold, peers)


def least_summed(rule: Aggregation) -> int:
    """Of how many sites a sum is at least."""
    return max(least_round(rule)[1], rule.minimum_sites)


def least_honest_share(study: Study) -> float:
    """The deviation of a single site's noise over that of the sum's in the smallest round."""
    return 1.0 / math.sqrt(honest_sites(study, *least_round(study.aggregation)))


def rounds_paid(rounds: int) -> int:
    """Rounds for which ε has to be enough where each attempt at a round has noise of its own."""
    return rounds + math.ceil(rounds / SPARE)


def refuse_unshareable(study: Study, where: str = "") -> None:
    """Refuse a study that shares noise where the sum would not be the mechanism above.

    Raises
    ------
    PrivacyError
        ``MMF-382`` with the first condition that fails, and what to set.
    """
    training, rule = study.training, study.aggregation
    needed = (
        (study.privacy.mode == "dp", '`[privacy] mode = "dp"`: without it there is no noise'),
        (rule.secure, "`[aggregation] secure = true`: without masks single updates are seen"),
        (training.batch == 0, "`[training] batch = 0`: every patient must be in every step"),
        (training.local_epochs == 1, "`[training] local_epochs = 1`: a second step starts at a site's own"),
        (training.optimiser == "sgd", '`[training] optimiser = "sgd"`: others do more than add'),
        (training.gradient_clip is None, "`[training] gradient_clip = 0`: a site's own sum may not be cut"),
        (
            all(stage.sparsity == 0 for stage in training.stages),
            "`sparsity = 0` in each stage: only gradients are summed",
        ),
        (rule.strategy != "fedprox", '`strategy = "fedavg"` or "fedadam": in one step nothing pulls back'),
    )
    for holds, demand in needed:
        if not holds:
            what = f'the study sets `[privacy] noise = "shared"`, which takes {demand}'
            raise PrivacyError("MMF-382", what, where)
    try:
        honest_sites(study, *least_round(rule), where)
    except PrivacyError as error:
        what = (
            f"with its smallest round {error.what}: `[aggregation] minimum_sites` or `secure_threshold` "
            "must be larger, or `[privacy] colluding_sites` smaller"
        )
        raise PrivacyError("MMF-382", what, where) from None


def extra_delta(epsilon: float, rounds: int, parameters: int, sites: int) -> float:
    """What the noise's distance from an ideal one adds to δ at most, over all rounds of a study.

    Of normal deviates, made in pairs, no pair is longer than √(128 · ln 2) deviations; an ideal pair is with
    probability 2⁻⁶⁴. Noise that is ideal but for an event of probability η gives (ε, δ + (1 + e^ε) · η).
    """
    pairs = rounds * sites * math.ceil(parameters / 2)
    return pairs * 2.0**-64 * (1.0 + math.exp(min(epsilon, 700.0)))
