"""What is checked: a site's home, the study it would run, and what was found out about them on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from mmfed_client.home import SiteConfig, SiteHome
from mmfed_client.preflight.limits import Limits
from mmfed_common.errors import MmfedError, NetworkError
from mmfed_common.names import split_address, utc_now
from mmfed_common.signed_study import SignedStudy
from mmfed_common.study import Study


@dataclass
class Subject:
    """A site as it lies on the disk.

    Attributes
    ----------
    home
        The site's home.
    given
        A study document to check against; None: the study that is approved, else the newest one here.
    limits
        Thresholds.
    now
        The clock.
    offered
        A copy of the study that the coordinator offers, fetched when there is none here.
    """

    home: SiteHome
    given: Path | None = None
    limits: Limits = field(default_factory=Limits)
    now: Callable[[], datetime] = utc_now
    offered: Path | None = None

    @cached_property
    def config(self) -> SiteConfig | None:
        """``site.toml``; None where it is missing or damaged, which the item home reports."""
        try:
            return self.home.config
        except MmfedError:
            return None

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the server."""
        return None if self.config is None else split_address(self.config.address)

    @property
    def shown_address(self) -> str:
        """The server's address as ``site.toml`` gives it."""
        return "" if self.config is None else self.config.address

    @property
    def site(self) -> str:
        """The site's name, or ``site`` where none is known."""
        return "site" if self.config is None else self.config.site

    @property
    def cohort(self) -> Path | None:
        """The site's ``cohort.toml``; None where none is named."""
        return self.home.cohort_file if self.config is not None and self.config.cohort else None

    @property
    def study_file(self) -> Path | None:
        """The file of the study that is checked; None where there is none."""
        return self.given or self._own_study_file or self.offered

    @cached_property
    def _own_study_file(self) -> Path | None:
        approved = self._approved_file()
        return approved if approved is not None else self._newest()

    @cached_property
    def signed(self) -> SignedStudy | None:
        """The signed study; None where the document that was given carries no signature.

        Raises
        ------
        NetworkError
            ``MMF-418`` when it cannot be read.
        """
        path = self.study_file
        if path is None or path.suffix == ".toml":
            return None
        try:
            content = path.read_bytes()
        except OSError as error:
            raise NetworkError("MMF-418", f"cannot be read: {error.strerror}", str(path)) from None
        return None if path == self.given and _is_draft(content) else SignedStudy.from_json(content)

    @cached_property
    def study(self) -> Study | None:
        """The study that is checked; None where there is none, or none that can be used.

        A study whose signature or dates do not hold is still compared with the machine and the cohort:
        the item study says what is wrong with it.
        """
        try:
            return self._read_study()
        except (MmfedError, ValueError):
            return None

    @property
    def pack(self) -> Path | None:
        """The knowledge pack of the study; None where the study names none or it is not here."""
        study = self.study
        if study is None or study.contract.knowledge is None:
            return None
        reference = study.contract.knowledge
        candidates = [self.home.pack_file(reference.sha256)]
        if self.given is not None:
            candidates.insert(0, self.given.parent / reference.file)
        return next((path for path in candidates if path.is_file()), None)

    def _read_study(self) -> Study | None:
        if self.study_file is None:
            return None
        signed = self.signed
        if signed is None:
            return Study.load(self.study_file)
        return Study.from_content(json.loads(signed.document))

    def _approved_file(self) -> Path | None:
        """The approved study's file, if the ledger has one and it is here."""
        from mmfed_client.approval import last_approved
        from mmfed_client.ledger import Ledger

        if not self.home.ledger_file.is_file():
            return None
        try:
            study_hash = last_approved(Ledger(self.home.ledger_file))
            path = self.home.study_file(study_hash) if study_hash else None
        except (MmfedError, OSError):
            return None
        return path if path is not None and path.is_file() else None

    def _newest(self) -> Path | None:
        found = [path for path in self.home.studies.glob("*.json") if path.is_file()]
        return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _is_draft(content: bytes) -> bool:
    """Tell a study document from a signed one."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "contract" in document and "signature" not in document
