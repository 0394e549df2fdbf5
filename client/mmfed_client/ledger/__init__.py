"""The ledger of a site: what was decided there and what left it, in one append-only, hash-chained file."""

from mmfed_client.ledger.entry import EMPTY, Entry, Head
from mmfed_client.ledger.export import verify_export
from mmfed_client.ledger.ledger import Ledger

__all__ = ["EMPTY", "Entry", "Head", "Ledger", "verify_export"]
