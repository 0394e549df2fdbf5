"""The home of a site: one folder with its key, its trust, its policy, its ledger and its state.

``site.toml`` is written last by ``join``: a home without it has not joined.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from mmfed_common.contract import Section
from mmfed_common.errors import NetworkError
from mmfed_common.names import FEDERATION_NAME, SITE_NAME, is_sha256, split_address
from mmfed_common.signing import CoordinatorPublicKey, SiteKey

HOME_VARIABLE = "MMFED_HOME"
PASSPHRASE_VARIABLE = "MMFED_PASSPHRASE"
DEFAULT_HOME = "mmfed-site"
FOLDER_MODE = 0o700


class SiteConfig(Section):
    """What ``site.toml`` says.

    Attributes
    ----------
    site, federation
        Names; written by ``join``.
    address
        ``host:port`` of the coordinator's server.
    cohort
        Path of ``cohort.toml``, relative to the home or absolute; empty until it is known.
    """

    site: Annotated[str, Field(pattern=SITE_NAME)]
    federation: Annotated[str, Field(pattern=FEDERATION_NAME)]
    address: str
    cohort: str = ""


class SiteHome:
    """Names every file of a site's home, and reads those that trust hangs on.

    Parameters
    ----------
    path
        The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def default() -> SiteHome:
        """The home that the environment names (``MMFED_HOME``), or ``./mmfed-site``."""
        return SiteHome(Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME))

    @property
    def config_file(self) -> Path:
        """``site.toml``."""
        return self.path / "site.toml"

    @property
    def policy_file(self) -> Path:
        """``policy.toml``."""
        return self.path / "policy.toml"

    @property
    def key_file(self) -> Path:
        """``key.pem``, the site's private key."""
        return self.path / "key.pem"

    @property
    def next_key_file(self) -> Path:
        """``key.next.pem``: there only while the key is being changed."""
        return self.path / "key.next.pem"

    @property
    def privacy_key_file(self) -> Path:
        """``privacy.key``: the secret of the noise of differential privacy; nobody else may ever read it."""
        return self.path / "privacy.key"

    @property
    def ca_file(self) -> Path:
        """``trust/ca.pem``, the federation's certificate authority."""
        return self.path / "trust" / "ca.pem"

    @property
    def coordinator_file(self) -> Path:
        """``trust/coordinator.hex``, the key that signs studies."""
        return self.path / "trust" / "coordinator.hex"

    @property
    def ledger_file(self) -> Path:
        """``ledger.jsonl``."""
        return self.path / "ledger.jsonl"

    @property
    def studies(self) -> Path:
        """``studies/``, the signed studies that were seen."""
        return self.path / "studies"

    @property
    def packs(self) -> Path:
        """``packs/``, knowledge packs by their hash."""
        return self.path / "packs"

    @property
    def state(self) -> Path:
        """``state/``, what the running site tells about itself."""
        return self.path / "state"

    @property
    def status_file(self) -> Path:
        """``state/status.json``."""
        return self.state / "status.json"

    @property
    def lock_file(self) -> Path:
        """``state/node.lock``, held by the one node of this home."""
        return self.state / "node.lock"

    @property
    def log_file(self) -> Path:
        """``log.jsonl``."""
        return self.path / "log.jsonl"

    def study_file(self, study_hash: str) -> Path:
        """Where a signed study is kept; ``MMF-423`` when the text is no hash: no path is smuggled in."""
        return self.studies / f"{_hash(study_hash)}.json"

    def feedback(self, study_hash: str) -> Path:
        """``state/feedback/…``, what compression lost of the last updates for a study."""
        return self.state / "feedback" / _hash(study_hash)

    def pack_file(self, sha256: str) -> Path:
        """Where a knowledge pack is kept; ``MMF-423`` when the text is no hash."""
        return self.packs / f"{_hash(sha256)}.mmfk"

    @property
    def joined(self) -> bool:
        """Whether ``join`` has finished here."""
        return self.config_file.is_file()

    @property
    def config(self) -> SiteConfig:
        """What ``site.toml`` says, read anew.

        Raises
        ------
        NetworkError
            ``MMF-423`` when there is none, or it is not valid.
        """
        content = _read_toml(self.config_file)
        try:
            config = SiteConfig.model_validate(content, strict=True)
            split_address(config.address)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise NetworkError("MMF-423", f"{key}: {first['msg']}", str(self.config_file)) from None
        return config

    @property
    def cohort_file(self) -> Path | None:
        """The site's ``cohort.toml``, or None until ``site.toml`` names one."""
        named = self.config.cohort
        return self.path / named if named else None

    @property
    def coordinator(self) -> CoordinatorPublicKey:
        """The coordinator's public key.

        Raises
        ------
        NetworkError
            ``MMF-423`` when it is not there, ``MMF-411`` when it is damaged.
        """
        return CoordinatorPublicKey.from_hex(_read_text(self.coordinator_file).strip())

    def key(self, passphrase: str | None = None) -> SiteKey:
        """Read the site's private key.

        Parameters
        ----------
        passphrase
            Default: the variable ``MMFED_PASSPHRASE``.

        Raises
        ------
        NetworkError
            ``MMF-411`` to ``MMF-413`` as :meth:`mmfed_common.signing.SiteKey.load`.
        """
        return SiteKey.load(self.key_file, passphrase_of(passphrase))

    def make_folders(self) -> None:
        """Make the folders, readable by their owner only.

        Raises
        ------
        NetworkError
            ``MMF-423`` when that is not possible, or everybody may write to the home.
        """
        try:
            self.path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            if self.path.stat().st_mode & 0o002:
                raise NetworkError("MMF-423", "everybody may write to this folder", str(self.path))
            for folder in (self.ca_file.parent, self.studies, self.packs, self.state):
                folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        except OSError as error:
            raise NetworkError("MMF-423", f"cannot be made: {error.strerror}", str(self.path)) from None


def passphrase_of(given: str | None) -> str | None:
    """The passphrase that was given, else that of the environment, else None."""
    return given or os.environ.get(PASSPHRASE_VARIABLE) or None


def _hash(text: str) -> str:
    if not is_sha256(text):
        raise NetworkError("MMF-423", f"{text[:80]!r} is not a SHA-256 in hexadecimal")
    return text


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise NetworkError("MMF-423", f"cannot be read: {reason}", str(path)) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise NetworkError("MMF-423", f"not a TOML file: {error}", str(path)) from None
