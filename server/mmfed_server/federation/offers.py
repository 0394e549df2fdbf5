"""What sites are offered: the signed study that is on, and knowledge packs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from mmfed_common.errors import NetworkError
from mmfed_common.names import is_sha256
from mmfed_common.signed_study import SignedStudy
from mmfed_server.federation.folder import Federation
from mmfed_server.federation.kept import keep_pack, keep_study


class Offers:
    """The study on offer; safe to change while the portal reads.

    Parameters
    ----------
    federation
        Keeps signed studies and packs in its folder.

    Attributes
    ----------
    trouble
        Gives the code of what ended the run and is tried again; empty without.
    waiting
        Gives the studies whose turn comes after the one on offer.
    """

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.trouble: Callable[[], str] = str
        self.waiting: Callable[[], list[SignedStudy]] = list
        self._lock = threading.Lock()
        self._current: SignedStudy | None = None

    @property
    def current(self) -> SignedStudy | None:
        """The study on offer, or None."""
        with self._lock:
            return self._current

    def put(self, signed: SignedStudy, pack: Path | None = None) -> None:
        """Offer a study; it and its knowledge pack are kept in the federation's folder first.

        Parameters
        ----------
        pack
            The file of the knowledge pack; needed when the study names one.

        Raises
        ------
        NetworkError
            ``MMF-432`` when the folder cannot be written; the codes of
            :meth:`mmfed_common.signed_study.SignedStudy.open` when it is not this coordinator's own.
        ModelError
            ``MMF-601`` when the pack is missing, ``MMF-602`` when it is not the one that the study names.
        """
        federation = self.federation
        study = signed.open(federation.coordinator_key.public, federation.name)
        knowledge = study.contract.knowledge
        try:
            if knowledge is not None:
                keep_pack(federation, knowledge.sha256, pack)
            keep_study(federation, signed)
        except OSError as error:
            raise NetworkError(
                "MMF-432", f"cannot be written: {error.strerror}", str(federation.path)
            ) from None
        with self._lock:
            self._current = signed

    def withdraw(self) -> None:
        """Offer nothing any more; who has approved the study already is not affected."""
        with self._lock:
            self._current = None

    def pack(self, sha256: str) -> Path | None:
        """The file of a knowledge pack, or None when the text is no hash or there is no such pack."""
        if not is_sha256(sha256):
            return None
        file = self.federation.pack_file(sha256)
        return file if file.is_file() else None
