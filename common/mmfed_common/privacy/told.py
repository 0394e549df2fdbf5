"""What a model's release says about privacy: reckoned from the study, no site tells anything for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from mmfed_common.errors import PrivacyError
from mmfed_common.masking.shared_noise import least_honest_share, shares_noise
from mmfed_common.privacy.accounting import ACCOUNTANT, MECHANISM, SHARED_MECHANISM, UNIT
from mmfed_common.privacy.plan import PrivacyPlan
from mmfed_common.study import Study


def told_epsilon(study: Study, patients: int, rounds: int) -> float | None:
    """ε of a site's training patients after so many rounds; None without differential privacy.

    A round that was repeated from other weights costs more; whatever happens, a site stops at the study's ε.
    So that is what stands where the number of training patients is not told, or is that of a part only, and
    where sites share noise, so that every attempt at a round is paid.

    Parameters
    ----------
    patients
        Training patients of the site; 0 where the site hides them.
    rounds
        Rounds in which it may have trained.
    """
    if study.privacy.mode != "dp":
        return None
    if patients < 1 or study.training.validation_fraction > 0 or shares_noise(study):
        return study.privacy.epsilon
    try:
        return math.ceil(PrivacyPlan.of(study, patients).cost(rounds) * 1e4) / 1e4  # never rounded down
    except PrivacyError:
        return 0.0  # such a site refuses to train


def holds_against(study: Study) -> str:
    """Against whom a private study's ε holds, in a sentence or two."""
    if not shares_noise(study):
        return "Each site adds all the noise to its own updates: ε holds against everybody outside the site."
    helping, share = study.privacy.colluding_sites, least_honest_share(study)
    return (
        "The sites share the noise, and ε holds for sums only: for the released model and against a "
        f"coordinator that sees sums, while no more than {helping} of a round's sites help it or leave their "
        "share out; another site, which knows its own share, is one of these. With more, less noise is left: "
        f"a single update has {share:.0%} of it or less. It rests on secure aggregation, so also on X25519 "
        "and AES."
    )


def told_privacy(study: Study, sites: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What to say about a released model; None without differential privacy.

    Parameters
    ----------
    sites
        Rows with ``site`` and ``epsilon``.

    Returns
    -------
    ``epsilon``: the largest of any site, for each patient is in one site only; ``delta``, ``unit``,
    ``mechanism``, ``accountant``, ``clipping``, ``trainable``, ``noise``; ``holds``: against whom;
    ``sites``: name → ε.
    """
    if study.privacy.mode != "dp":
        return None
    by_site = {str(site["site"]): site.get("epsilon") for site in sites}
    known = [epsilon for epsilon in by_site.values() if epsilon is not None]
    return {
        "epsilon": max(known, default=study.privacy.epsilon),
        "delta": study.privacy.delta,
        "unit": UNIT,
        "mechanism": SHARED_MECHANISM if shares_noise(study) else MECHANISM,
        "accountant": ACCOUNTANT,
        "clipping": study.privacy.clipping,
        "trainable": study.privacy.trainable,
        "noise": study.privacy.noise,
        "holds": holds_against(study),
        "sites": by_site,
    }
