"""The signed studies that a site has seen: one file each in its home, named by the study's hash."""

from __future__ import annotations

from pathlib import Path

from mmfed_client.home import SiteHome
from mmfed_client.ledger import Ledger
from mmfed_common.durable import write_durably
from mmfed_common.errors import MachineError
from mmfed_common.signed_study import SignedStudy

PRIVATE = 0o600
MOST_KEPT = 50
"""So that a coordinator that offers ever new studies cannot fill the disk; approved ones always stay."""


def read_signed(path: Path) -> SignedStudy:
    """Read a signed study from a file.

    Raises
    ------
    MachineError
        ``MMF-114`` when it cannot be read.
    NetworkError
        ``MMF-418`` when it is no signed study.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MachineError(
            "MMF-114", f"the signed study cannot be read: {error.strerror}", str(path)
        ) from None
    return SignedStudy.from_json(content)


def keep_signed(home: SiteHome, signed: SignedStudy) -> Path:
    """Keep a signed study among those that were seen, for `review` and for the node.

    Raises
    ------
    MachineError
        ``MMF-112`` when it cannot be written.
    """
    path = home.study_file(signed.hash)
    content = signed.to_json().encode()
    try:
        if not path.is_file() or path.read_bytes() != content:
            write_durably(path, content, PRIVATE)
            _forget_old(home)
    except OSError as error:
        raise MachineError("MMF-112", f"the study cannot be kept: {error.strerror}", str(path)) from None
    return path


def _forget_old(home: SiteHome) -> None:
    """Remove the studies that were seen first, of those that nobody ever approved."""
    files = sorted(home.studies.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    if len(files) <= MOST_KEPT:
        return
    entries = Ledger(home.ledger_file).decisions()
    approved = {entry.body["study"] for entry in entries if entry.kind == "approval"}
    for file in files[:-MOST_KEPT]:
        if file.stem not in approved:
            file.unlink(missing_ok=True)
