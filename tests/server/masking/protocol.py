"""Sites and server of one masked round, without messages between them; sites drop out where a test says."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from mmfed_client.masking.session import MaskingSession
from mmfed_common.masking.keys import Session
from mmfed_common.masking.stream import Vector
from mmfed_common.signing import SiteKey
from mmfed_common.study import Aggregation
from mmfed_server.masking.parties import Parties, tags_for

STUDY = "ab" * 32
KEYS: dict[str, SiteKey] = {}
"""Enrolled keys of the tests' sites; made once."""


def enrolled(site: str) -> SiteKey:
    """The enrolled key of a site."""
    return KEYS.setdefault(site, SiteKey.generate())


def new_session(round_number: int = 1) -> Session:
    """One attempt at a round."""
    return Session(STUDY, round_number, secrets.token_hex(16))


@dataclass
class Dropouts:
    """Who is gone in each phase."""

    shares: Collection[str] = ()
    update: Collection[str] = ()
    agree: Collection[str] = ()
    open: Collection[str] = ()


@dataclass
class Transcript:
    """Everything that the server saw.

    Attributes
    ----------
    masked
        Site → its masked vector.
    opened
        The sum.
    masking_keys
        Site → its secret masking key, which the server has not seen: for tests that show what if.
    """

    parties: Parties
    sites: dict[str, MaskingSession]
    masked: dict[str, Vector] = field(default_factory=dict)
    tags: dict[str, list[bytes]] = field(default_factory=dict)
    opened: Vector | None = None
    masking_keys: dict[str, bytes] = field(default_factory=dict)


def site_names(count: int) -> list[str]:
    """Names whose order is not that of their numbers."""
    return [f"site-{number}" for number in range(count)]


def run_protocol(
    vectors: dict[str, Vector], share: float = 0.6, gone: Dropouts | None = None, minimum_sites: int = 2
) -> Transcript:
    """Let sites mask vectors and the server open the sum of those that stay."""
    gone = gone or Dropouts()
    session = new_session()
    rule = Aggregation(secure=True, secure_threshold=share, minimum_sites=minimum_sites)
    sites = {name: MaskingSession(session, name, enrolled(name), rule) for name in vectors}
    parties = Parties.of(session, [site.own for site in sites.values()], share)
    seen = Transcript(parties, sites)
    seen.masking_keys = {name: site._masking for name, site in sites.items()}
    listed = list(parties.peers.values())
    for name, site in sites.items():
        if name not in gone.shares:
            parties.sealed[name] = site.share(listed, parties.threshold)
    total = np.zeros_like(next(iter(vectors.values())))
    for name in parties.senders:
        if name not in gone.update:
            own = vectors[name].copy()
            sites[name].mask(parties.senders, parties.sealed_for(name), own)
            seen.masked[name] = own
            parties.alive.add(name)
            total += own
    alive = sorted(parties.alive)
    seen.tags = {name: sites[name].agree(alive, parties.gone) for name in alive if name not in gone.agree}
    for name in seen.tags:
        if name not in gone.open:
            parties.shares[name] = sites[name].open(list(seen.tags), tags_for(name, alive, seen.tags))
    assert parties.unmask(total) == {}
    seen.opened = total
    return seen
