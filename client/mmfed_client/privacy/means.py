"""What a site trains privately with: who pays, and the secret of its noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmfed_client.gate import Exit
from mmfed_client.privacy.noise import keyed_digest
from mmfed_client.privacy.secret import secret_of
from mmfed_client.privacy.spender import Spender
from mmfed_client.privacy.spending import LedgerSpender, MemorySpender
from mmfed_client.training.local_site import LocalSite
from mmfed_common.privacy import PrivacyPlan


@dataclass(frozen=True)
class Means:
    """Who pays for a site's private results in one study, and the secret of its noise."""

    spender: Spender
    secret: bytes


def means_of(site: LocalSite, way_out: Exit | None, honest_sites: int = 0) -> Means:
    """Give the means of a site.

    Parameters
    ----------
    way_out
        A real site's exit, whose home holds the secret and whose ledger the account. None in a simulation:
        there the secret follows from the study's seed, so that a run can be repeated, and protects nobody.
    honest_sites
        Of how many sites the noise is surely in the sum, where they share it.

    Raises
    ------
    PrivacyError
        The plan's own codes when the study cannot be kept private at this site.
    """
    plan = replace(PrivacyPlan.of(site.study, len(site.fit)), honest_sites=honest_sites)
    if way_out is None:
        return Means(MemorySpender(plan), keyed_digest(b"simulation", site.study.study.seed, site.name))
    home = way_out.guardian.home
    return Means(LedgerSpender(way_out.ledger, site.study, way_out.policy(), plan), secret_of(home))
