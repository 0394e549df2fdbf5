"""The form of a site's ledger: its lines, their chain, and an export that others can check."""

from mmfed_common.ledger.entry import EMPTY, BrokenLineError, Entry, Head, parse_line, read_line
from mmfed_common.ledger.export import export_hashes, exported_entries, signed_export, verify_export

__all__ = [
    "EMPTY",
    "BrokenLineError",
    "Entry",
    "Head",
    "export_hashes",
    "exported_entries",
    "parse_line",
    "read_line",
    "signed_export",
    "verify_export",
]
