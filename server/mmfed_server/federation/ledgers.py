"""An exported ledger of a site against every head of it that the registry keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmfed_common.ledger import export_hashes
from mmfed_server.federation.registry import SiteRegistry
from mmfed_server.federation.tables import LedgerHead


@dataclass(frozen=True)
class LedgerComparison:
    """What came of comparing an export with the heads that were told.

    Attributes
    ----------
    entries
        How many entries the export has.
    heads
        How many heads are kept of the site.
    others
        Those whose entry is another one in the export.
    beyond
        Those that were told of entries after the export's last: cut off, or written since the export.
    """

    site: str
    entries: int
    heads: int
    others: tuple[LedgerHead, ...]
    beyond: tuple[LedgerHead, ...]

    @property
    def agrees(self) -> bool:
        """Whether the export holds every entry that was ever told as the head."""
        return not self.others and not self.beyond


def compare_ledger(registry: SiteRegistry, site: str, export: Path) -> LedgerComparison:
    """Compare an export with all that the site has told of its ledger since it was last invited.

    Raises
    ------
    NetworkError
        ``MMF-434`` when there is no such site, ``MMF-435`` when it never joined.
    PrivacyError
        ``MMF-313`` when the export is not whole or not signed by the site's key, ``MMF-311`` when it cannot
        be read.
    """
    hashes = export_hashes(export, registry.last_key(site))
    heads = registry.ledger_heads(site)
    others = [head for head in heads if head.length <= len(hashes) and hashes[head.length - 1] != head.head]
    beyond = [head for head in heads if head.length > len(hashes)]
    return LedgerComparison(site, len(hashes), len(heads), tuple(others), tuple(beyond))
