"""The federation: its folder, its certificate authority, its sites and what they are offered."""

from __future__ import annotations

from mmfed_server.federation.certificates import Certificates
from mmfed_server.federation.folder import Federation, FederationConfig
from mmfed_server.federation.ledgers import LedgerComparison, compare_ledger
from mmfed_server.federation.offers import Offers
from mmfed_server.federation.registry import Invitation, SiteRegistry
from mmfed_server.federation.tables import LedgerHead, SiteRecord

__all__ = [
    "Certificates",
    "Federation",
    "FederationConfig",
    "Invitation",
    "LedgerComparison",
    "LedgerHead",
    "Offers",
    "SiteRecord",
    "SiteRegistry",
    "compare_ledger",
]
