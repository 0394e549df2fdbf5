"""An exported ledger: its entries, and a last line by which the site vouches for their number and head."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from mmfed_common.errors import PrivacyError
from mmfed_common.ledger.entry import EMPTY, BrokenLineError, Entry, Head, canonical, read_line
from mmfed_common.names import time_text
from mmfed_common.signing import SiteKey, SitePublicKey

CONTEXT = b"mmfed ledger 1\n"
"""Distinguishes this signature from any other that is made with the same key."""


def signed_export(head: Head, key: SiteKey, now: datetime) -> bytes:
    """Make the last line of an export."""
    export = {
        "count": head.length,
        "head": head.hash,
        "key": key.public.fingerprint,
        "time": time_text(now),
    }
    signature = key.sign(CONTEXT + canonical(export)).hex()
    return canonical({"export": export, "signature": signature}) + b"\n"


def verify_export(path: Path, public_key: SitePublicKey) -> Head:
    """Check an exported ledger, every byte of it, and give its head; raises as :func:`export_hashes`."""
    hashes = export_hashes(path, public_key)
    return Head(len(hashes), hashes[-1]) if hashes else EMPTY


def export_hashes(path: Path, public_key: SitePublicKey) -> tuple[str, ...]:
    """Check an exported ledger, every byte of it; raises as :func:`exported_entries`.

    Returns
    -------
    The hash of each entry; the coordinator compares them with the heads that came with answers.
    """
    return tuple(entry.head.hash for entry in exported_entries(path, public_key))


def exported_entries(path: Path, public_key: SitePublicKey) -> tuple[Entry, ...]:
    """Check an exported ledger, every byte of it, and give its entries.

    Raises
    ------
    PrivacyError
        ``MMF-313`` with the first line that is wrong, ``MMF-311`` when it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PrivacyError("MMF-311", f"the export cannot be read: {error.strerror}", str(path)) from None
    *lines, last, end = [b"", *content.split(b"\n")]
    if end:
        raise PrivacyError("MMF-313", "its last line has no end", str(path))
    head = EMPTY
    entries = []
    for number, line in enumerate(lines[1:], start=1):
        try:
            entry = read_line(line, head)
        except BrokenLineError as error:
            raise PrivacyError("MMF-313", f"line {number}: {error}", str(path)) from None
        head = entry.head
        entries.append(entry)
    claimed = _signed_head(last, public_key, str(path))
    if claimed != head:
        what = f"it has {head.length} entries, the site signed {claimed.length} or another head"
        raise PrivacyError("MMF-313", what, str(path))
    return tuple(entries)


def _signed_head(line: bytes, public_key: SitePublicKey, where: str) -> Head:
    try:
        fields = json.loads(line)
        exact = canonical(fields) == line
        export, signature = fields["export"], fields["signature"]
        raw = bytes.fromhex(signature)
        claimed = Head(export["count"], export["head"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PrivacyError("MMF-313", "its last line is not a signed head", where) from None
    if not exact or raw.hex() != signature or set(fields) != {"export", "signature"}:
        raise PrivacyError("MMF-313", "its last line is not in its canonical form", where)
    if not public_key.verify(CONTEXT + canonical(export), raw):
        raise PrivacyError("MMF-313", "the signature is not this site's", where)
    return claimed
