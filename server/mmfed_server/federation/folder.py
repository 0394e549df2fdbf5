"""The home of a federation: one folder with its authority, its keys, its studies and its settings."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import tomllib
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import Field, ValidationError

from mmfed_common.contract import Section
from mmfed_common.durable import write_durably
from mmfed_common.errors import NetworkError
from mmfed_common.kit import Kit
from mmfed_common.names import (
    FEDERATION_NAME,
    check_federation_name,
    is_sha256,
    split_address,
    time_text,
    utc_now,
)
from mmfed_common.signing import CoordinatorKey
from mmfed_server.federation.certificates import (
    Authority,
    Certificates,
    certificate_pem,
    general_names,
    key_pem,
)
from mmfed_server.federation.registry import Invitation

FEDERATION_VARIABLE = "MMFED_FEDERATION"
PASSPHRASE_VARIABLE = "MMFED_PASSPHRASE"
METRICS_PORT = 9464
FOLDERS = ("ca", "server", "kits", "studies", "packs", "spool")
WARNING_DAYS = (30, 7, 1)
"""Warnings begin when so many days are left; at the first, the server's certificate is renewed by itself."""


class FederationConfig(Section):
    """What ``federation.toml`` says.

    Attributes
    ----------
    name
        The federation's name.
    address
        ``host:port`` that sites connect to; it stands in every join kit.
    names
        DNS names and IP addresses in the server's certificate.
    listen
        ``host:port`` that the server binds.
    database
        URL; empty: SQLite in the folder.
    metrics_port
        Port of the metrics on loopback; 0: none.
    """

    name: Annotated[str, Field(pattern=FEDERATION_NAME)]
    address: str
    names: Annotated[list[str], Field(min_length=1)]
    listen: str
    database: str = ""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = METRICS_PORT


class Federation:
    """A federation's folder; make one with :meth:`create`, open it with :meth:`load`.

    Parameters
    ----------
    path
        The folder.
    config
        What ``federation.toml`` says.
    """

    def __init__(self, path: Path, config: FederationConfig) -> None:
        self.path = path
        self.config = config

    @staticmethod
    def create(
        path: Path,
        name: str,
        address: str,
        names: Sequence[str] = (),
        *,
        listen: str = "",
        database: str = "",
        metrics_port: int = METRICS_PORT,
        passphrase: str | None = None,
        now: datetime | None = None,
    ) -> Federation:
        """Make a new federation: authority, server's certificate, the key that signs studies, the settings.

        The folder appears whole or not at all.

        Parameters
        ----------
        address
            ``host:port`` that sites connect to; its host is in the certificate.
        names
            Further DNS names and IP addresses for the certificate.
        listen
            ``host:port`` to bind; default: all interfaces at the address's port.
        passphrase
            Protects the coordinator's key; without one its file's mode does.

        Raises
        ------
        NetworkError
            ``MMF-425`` when a name or address is not allowed, ``MMF-431`` when the folder is not empty,
            ``MMF-432`` when it cannot be written.
        """
        host, port = split_address(address)
        listen = listen or f"0.0.0.0:{port}"
        split_address(listen)
        all_names = list(dict.fromkeys([host, *names]))
        general_names(all_names)
        config = FederationConfig(
            name=check_federation_name(name),
            address=address,
            names=all_names,
            listen=listen,
            database=database,
            metrics_port=metrics_port,
        )
        _refuse_if_used(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))  # mode 0700
            try:
                _fill(Federation(beside, config), passphrase, now or utc_now())
                os.replace(beside, path)
            finally:
                shutil.rmtree(beside, ignore_errors=True)  # nothing is there when all went well
        except OSError as error:
            raise NetworkError("MMF-432", f"cannot be made: {error.strerror}", str(path)) from None
        return Federation(path, config)

    @staticmethod
    def load(path: Path) -> Federation:
        """Open a federation's folder.

        Raises
        ------
        NetworkError
            ``MMF-432`` when there is none, or its settings are not valid.
        """
        file = path / "federation.toml"
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
            config = FederationConfig.model_validate(content, strict=True)
        except OSError as error:
            raise NetworkError("MMF-432", f"cannot be read: {error.strerror}", str(file)) from None
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise NetworkError("MMF-432", f"{key}: {first['msg']}", str(file)) from None
        except ValueError as error:
            raise NetworkError("MMF-432", f"not a TOML file: {error}", str(file)) from None
        split_address(config.address)
        split_address(config.listen)
        general_names(config.names)
        return Federation(path, config)

    @staticmethod
    def default_path() -> Path:
        """The folder that the environment names (``MMFED_FEDERATION``), or the current one."""
        return Path(os.environ.get(FEDERATION_VARIABLE) or ".")

    @property
    def name(self) -> str:
        """The federation's name."""
        return self.config.name

    @property
    def address(self) -> str:
        """``host:port`` that sites connect to."""
        return self.config.address

    @property
    def listen(self) -> tuple[str, int]:
        """Host and port to bind."""
        return split_address(self.config.listen)

    @property
    def database_url(self) -> str:
        """URL of the database."""
        return self.config.database or f"sqlite:///{self.path.resolve() / 'federation.sqlite'}"

    @property
    def kits(self) -> Path:
        """``kits/``, join kits that were made."""
        return self.path / "kits"

    @property
    def studies(self) -> Path:
        """``studies/``, signed studies."""
        return self.path / "studies"

    @property
    def packs(self) -> Path:
        """``packs/``, knowledge packs for sites to fetch."""
        return self.path / "packs"

    @property
    def bundles(self) -> Path:
        """``bundles/``, released models that studies start from."""
        return self.path / "bundles"

    @property
    def spool(self) -> Path:
        """``spool/``, messages on their way."""
        return self.path / "spool"

    @property
    def log_file(self) -> Path:
        """``log.jsonl``."""
        return self.path / "log.jsonl"

    @property
    def coordinator_key_file(self) -> Path:
        """``coordinator.key``."""
        return self.path / "coordinator.key"

    def study_file(self, study_hash: str) -> Path:
        """Where a signed study is kept; ``MMF-432`` when the text is no hash."""
        return self.studies / f"{_hash(study_hash)}.json"

    def pack_file(self, sha256: str) -> Path:
        """Where a knowledge pack is kept; ``MMF-432`` when the text is no hash."""
        return self.packs / f"{_hash(sha256)}.mmfk"

    def bundle_folder(self, sha256: str) -> Path:
        """Where a released model that a study starts from is kept; ``MMF-432`` when the text is no hash."""
        return self.bundles / _hash(sha256)

    @cached_property
    def ca(self) -> x509.Certificate:
        """The authority's certificate; ``MMF-432`` when it cannot be read."""
        return _read_certificate(self.path / "ca" / "ca.pem")

    @cached_property
    def coordinator_key(self) -> CoordinatorKey:
        """The key that signs studies; ``MMF-411`` to ``MMF-413`` when it cannot be read."""
        return CoordinatorKey.load(self.coordinator_key_file, os.environ.get(PASSPHRASE_VARIABLE) or None)

    @property
    def certificates(self) -> Certificates:
        """What the public port shows; certificate and key are one file, so that they change in one step."""
        file = self.path / "server" / "server.pem"
        return Certificates(certificate_pem(self.ca), file, file)

    @property
    def server_certificate(self) -> x509.Certificate:
        """The server's certificate as it is on the disk now; ``MMF-432`` when it cannot be read."""
        return _read_certificate(self.certificates.cert_path)

    def rotate_server_certificate(self, now: datetime | None = None) -> x509.Certificate:
        """Make a new key and certificate for the server, with the names that ``federation.toml`` lists.

        Sites notice nothing: they trust the authority. A running server shows it after a reload.

        Raises
        ------
        NetworkError
            ``MMF-433`` when the authority's key is not there, ``MMF-432`` when the disk refuses.
        """
        authority = Authority(self.ca, _read_authority_key(self.path / "ca" / "ca.key"))
        try:
            return _issue(self, authority, now or utc_now())
        except OSError as error:
            raise NetworkError(
                "MMF-432", f"cannot be written: {error.strerror}", "server/server.pem"
            ) from None

    def renew_if_due(self, now: datetime) -> bool:
        """Renew the server's certificate when fewer than 30 days are left; tells whether it was.

        Raises
        ------
        NetworkError
            As :meth:`rotate_server_certificate`, e.g. where the authority's key is kept elsewhere.
        """
        if (self.server_certificate.not_valid_after_utc - now).days >= WARNING_DAYS[0]:
            return False
        self.rotate_server_certificate(now)
        return True

    def certificate_warnings(self, now: datetime) -> list[str]:
        """What to tell about certificates that end within 30, 7 or 1 days, or have ended."""
        held = {"The server's certificate": self.server_certificate, "The authority's certificate": self.ca}
        found = []
        for what, certificate in held.items():
            left = certificate.not_valid_after_utc - now
            ends = time_text(certificate.not_valid_after_utc)
            reached = [days for days in WARNING_DAYS if left.total_seconds() < days * 86400]
            if left.total_seconds() <= 0:
                found.append(f"{what} ended at {ends}: sites cannot connect.")
            elif reached:
                found.append(f"{what} ends within {reached[-1]} day(s), at {ends}.")
        return found

    def kit(self, invitation: Invitation) -> Kit:
        """Make the join kit of an invited site."""
        return Kit(
            federation=self.name,
            site=invitation.site,
            address=self.address,
            coordinator=self.coordinator_key.public.hex(),
            secret=invitation.secret,
            expires=time_text(invitation.expires),
            ca=certificate_pem(self.ca).decode(),
        )

    def write_kit(self, kit: Kit, out: Path | None = None) -> Path:
        """Write a join kit, readable by its owner only; default: ``kits/SITE.kit``.

        Raises
        ------
        NetworkError
            ``MMF-432`` when it cannot be written.
        """
        file = out or self.kits / f"{kit.site}.kit"
        try:
            write_durably(file, kit.to_text().encode(), 0o600)
        except OSError as error:
            raise NetworkError("MMF-432", f"cannot be written: {error.strerror}", str(file)) from None
        return file


def _refuse_if_used(path: Path) -> None:
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise NetworkError("MMF-431", "a new federation needs a folder of its own", str(path))


def _fill(federation: Federation, passphrase: str | None, now: datetime) -> None:
    for folder in FOLDERS:
        (federation.path / folder).mkdir(mode=0o700)
    authority = Authority.create(federation.name, now)
    write_durably(federation.path / "ca" / "ca.key", key_pem(authority.key), 0o600)
    write_durably(federation.path / "ca" / "ca.pem", certificate_pem(authority.certificate), 0o644)
    _issue(federation, authority, now)
    CoordinatorKey.generate().save(federation.coordinator_key_file, passphrase)
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in federation.config.model_dump().items())
    write_durably(federation.path / "federation.toml", f"{text}\n".encode(), 0o600)


def _issue(federation: Federation, authority: Authority, now: datetime) -> x509.Certificate:
    certificate, key = authority.issue(federation.config.names, now)
    content = certificate_pem(certificate) + key_pem(key)
    write_durably(federation.path / "server" / "server.pem", content, 0o600)
    return certificate


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise NetworkError("MMF-432", f"cannot be read: {error.strerror}", str(path)) from None
    except ValueError:
        raise NetworkError("MMF-432", "not a certificate", str(path)) from None


def _read_authority_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        if path.stat().st_mode & 0o077:
            raise NetworkError("MMF-412", "others than its owner may read the key", str(path))
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        raise NetworkError("MMF-433", "the authority's key cannot be read", str(path)) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise NetworkError("MMF-433", "not the authority's key", str(path))
    return key


def _hash(text: str) -> str:
    if not is_sha256(text):
        raise NetworkError("MMF-432", f"{text[:80]!r} is not a SHA-256 in hexadecimal")
    return text
