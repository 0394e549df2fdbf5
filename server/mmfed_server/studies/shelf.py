"""Signed studies, with knowledge packs and models to start from, as the coordinator keeps and offers them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from mmfed_common.durable import write_durably
from mmfed_common.errors import MmfedError, StudyError
from mmfed_common.graph import build_topology
from mmfed_common.knowledge import KnowledgePack
from mmfed_common.names import is_sha256, parse_time, utc_now
from mmfed_common.signed_study import SignedStudy
from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_server.federation import Federation
from mmfed_server.federation.kept import keep_bundle, keep_pack, keep_study

SIGNED_DAYS = 365
RENEW_BEFORE = timedelta(days=7)
"""A signature that ends sooner is replaced by a new one when the study is begun or gone on with."""
OFFERED = "offered"


class StudyShelf:
    """The folders ``studies/`` and ``packs/`` of a federation.

    Parameters
    ----------
    federation
        Whose studies; its key signs.
    """

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.key = federation.coordinator_key

    def put(self, path: Path, days: int | None = None) -> tuple[Study, SignedStudy]:
        """Sign a study's file and keep it, with its knowledge pack.

        A signature that is kept already and holds for a while stays, unless ``days`` asks for a new one.

        Parameters
        ----------
        path
            ``study.toml``, its canonical JSON, or a study that this coordinator has signed.
        days
            For how long sites may begin to work on it; None: the usual time.

        Raises
        ------
        StudyError
            ``MMF-501`` when it is not valid.
        NetworkError
            ``MMF-414`` … ``MMF-418`` when it is a signed study that does not hold.
        ModelError
            ``MMF-601`` … ``MMF-603`` when the knowledge pack is missing or another one, ``MMF-630`` and
            ``MMF-606`` likewise for the bundle that the study starts from.
        """
        study = self.read(path)
        self._keep_pack(study, path.parent)
        self._keep_bundle(study, path.parent)
        kept = self._kept(study.hash) if days is None else None
        if kept is not None and self._fresh(kept, utc_now()):
            return study, kept
        return study, self._sign(study, SIGNED_DAYS if days is None else days)

    def read(self, path: Path) -> Study:
        """Read a study, signed or not; errors as in :meth:`put`."""
        if is_signed(path):
            signed = SignedStudy.from_json(path.read_bytes())
            return signed.open(self.key.public, self.federation.name)
        return Study.load(path)

    def offer(self, study: Study) -> SignedStudy:
        """Make a kept study the one that sites are offered; a signature that is about to end is renewed.

        Raises
        ------
        StudyError
            ``MMF-551`` when it is not kept here.
        """
        signed = self._load(study.hash)
        if not self._fresh(signed, utc_now()):
            signed = self._sign(study, SIGNED_DAYS)
        write_durably(self._pointer, study.hash.encode())
        return signed

    def kept(self, study_hash: str) -> SignedStudy:
        """A study that is kept here; ``MMF-551`` when it is not."""
        return self._load(study_hash)

    def withdraw(self) -> None:
        """Offer nothing."""
        self._pointer.unlink(missing_ok=True)

    def offered(self) -> SignedStudy | None:
        """The study that sites are offered; None when there is none.

        Raises
        ------
        StudyError
            ``MMF-551`` when it is named but not kept here.
        """
        try:
            named = self._pointer.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        return self._load(named)

    def open(self, signed: SignedStudy) -> Study:
        """The study in a signed document, however old the signature is; errors as in :meth:`put`."""
        return signed.open(self.key.public, self.federation.name, parse_time(signed.issued))

    def pack_of(self, study: Study) -> Path | None:
        """Where the study's knowledge pack is kept; None when it needs none."""
        reference = study.contract.knowledge
        return None if reference is None else self.federation.pack_file(reference.sha256)

    def bundle_of(self, study: Study) -> Path | None:
        """Where the released model that the study starts from is kept; None when it starts from none."""
        reference = study.model.start_from
        return None if reference is None else self.federation.bundle_folder(reference.sha256)

    def topology(self, study: Study) -> Topology:
        """The graph that the study's patients share.

        Raises
        ------
        ModelError
            ``MMF-601`` … ``MMF-603`` when the pack is not kept here or is damaged.
        """
        path = self.pack_of(study)
        reference = study.contract.knowledge
        if path is None or reference is None:
            return build_topology(study.contract, None)
        named = reference.model_copy(update={"file": path.name})
        return build_topology(study.contract, KnowledgePack.load_for(named, path.parent))

    @property
    def _pointer(self) -> Path:
        return self.federation.studies / OFFERED

    def _sign(self, study: Study, days: int) -> SignedStudy:
        signed = SignedStudy.sign(study, self.key, self.federation.name, days)
        keep_study(self.federation, signed)
        return signed

    def _keep_pack(self, study: Study, folder: Path) -> None:
        reference, kept = study.contract.knowledge, self.pack_of(study)
        if reference is None or kept is None:
            return
        if not (folder / reference.file).exists() and kept.exists():
            self.topology(study)  # checks the copy that is here
            return
        KnowledgePack.load_for(reference, folder)
        keep_pack(self.federation, reference.sha256, folder / reference.file)

    def _keep_bundle(self, study: Study, folder: Path) -> None:
        reference = study.model.start_from
        if reference is not None:
            keep_bundle(self.federation, reference.sha256, folder / reference.file)

    def _kept(self, digest: str) -> SignedStudy | None:
        return self._load(digest) if self.federation.study_file(digest).is_file() else None

    def _load(self, digest: str) -> SignedStudy:
        if not is_sha256(digest) or not self.federation.study_file(digest).is_file():
            raise StudyError(
                "MMF-551", f"study {digest[:64]!r} is not kept here", str(self.federation.studies)
            )
        signed = SignedStudy.from_json(self.federation.study_file(digest).read_bytes())
        if signed.hash != digest:
            raise StudyError(
                "MMF-551", f"the file of study {digest} holds another", str(self.federation.studies)
            )
        return signed

    def _fresh(self, signed: SignedStudy, now: datetime) -> bool:
        try:
            signed.open(self.key.public, self.federation.name, now + RENEW_BEFORE)
        except MmfedError as error:
            if error.code not in ("MMF-414", "MMF-415", "MMF-417"):
                raise
            return False
        return True


def is_signed(path: Path) -> bool:
    """Tell whether a file holds a signed study; ``MMF-501`` when it cannot be read."""
    if path.suffix != ".json":
        return False
    try:
        return b'"coordinator_fingerprint"' in path.read_bytes()
    except OSError as error:
        raise StudyError("MMF-501", f"cannot be read: {error.strerror}", str(path)) from None
