"""The one place that writes signed studies, knowledge packs and bundles into the federation's folder."""

from __future__ import annotations

from pathlib import Path

from mmfed_common.bundle import copy_bundle
from mmfed_common.durable import write_durably
from mmfed_common.errors import ModelError
from mmfed_common.pack_identity import pack_identity
from mmfed_common.signed_study import SignedStudy
from mmfed_server.federation.folder import Federation

MODE = 0o600


def keep_study(federation: Federation, signed: SignedStudy) -> None:
    """Keep a signed study; raises :class:`OSError` when it cannot be written."""
    write_durably(federation.study_file(signed.hash), signed.to_json().encode(), MODE)


def keep_pack(federation: Federation, sha256: str, pack: Path | None) -> None:
    """Keep a knowledge pack, unless it is kept already and whole.

    Parameters
    ----------
    pack
        Its file; None where only the kept one will do.

    Raises
    ------
    ModelError
        ``MMF-601`` when the pack is missing, ``MMF-602`` when it is not the one of this hash.
    OSError
        When it cannot be written.
    """
    kept = federation.pack_file(sha256)
    if kept.is_file() and pack_identity(kept) == sha256:
        return
    if pack is None or not pack.is_file():
        raise ModelError("MMF-601", "the study's knowledge pack is not there", str(pack or sha256))
    if pack_identity(pack) != sha256:
        raise ModelError("MMF-602", "it is not the pack that the study names", str(pack))
    write_durably(kept, pack.read_bytes(), MODE)


def keep_bundle(federation: Federation, sha256: str, bundle: Path) -> None:
    """Keep the released model that a study starts from, unless it is kept already and whole.

    Raises
    ------
    ModelError
        ``MMF-630`` when it is missing or another one, ``MMF-606`` when it is damaged.
    OSError
        When it cannot be written.
    """
    copy_bundle(bundle, federation.bundle_folder(sha256), sha256)
