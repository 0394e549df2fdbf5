"""The ledger of a site: what was decided there and what left it, in one append-only, hash-chained file."""

from mmfed_client.ledger.ledger import Ledger
from mmfed_common.ledger import EMPTY, Entry, Head, verify_export

__all__ = ["EMPTY", "Entry", "Head", "Ledger", "verify_export"]
