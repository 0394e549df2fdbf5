"""Keys and signatures: the coordinator's Ed25519 key signs studies, a site's P-384 key signs what leaves it.

The site's key is on a NIST curve because Flower authenticates nodes with it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mmfed_common.durable import write_durably
from mmfed_common.errors import NetworkError

PRIVATE_MODE = 0o600
MOST_KEY_BYTES = 64 * 1024
MOST_PASSPHRASE_BYTES = 1023


@dataclass(frozen=True)
class SitePublicKey:
    """A site's public key."""

    key: ec.EllipticCurvePublicKey

    @staticmethod
    def from_pem(pem: bytes) -> SitePublicKey:
        """Read a key.

        Raises
        ------
        NetworkError
            ``MMF-411`` when it is not a P-384 public key.
        """
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            raise NetworkError("MMF-411", "not a public key in PEM form") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
            raise NetworkError("MMF-411", "not a P-384 public key")
        return SitePublicKey(key)

    def pem(self) -> bytes:
        """The key as PEM (SubjectPublicKeyInfo), the form in which Flower compares keys."""
        return self.key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key, in groups that two people can read to each other."""
        return fingerprint(self._der())

    def verify(self, content: bytes, signature: bytes) -> bool:
        """Tell whether the site made this signature (ECDSA with SHA-384) over these bytes."""
        try:
            self.key.verify(signature, content, ec.ECDSA(hashes.SHA384()))
        except InvalidSignature:
            return False
        return True

    def _der(self) -> bytes:
        return self.key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )


@dataclass(frozen=True)
class SiteKey:
    """A site's private key; it is made on the site and never leaves it."""

    key: ec.EllipticCurvePrivateKey

    @staticmethod
    def generate() -> SiteKey:
        """Make a new key from the operating system's random source."""
        return SiteKey(ec.generate_private_key(ec.SECP384R1()))

    @staticmethod
    def load(path: Path, passphrase: str | None = None) -> SiteKey:
        """Read a key file.

        Raises
        ------
        NetworkError
            ``MMF-411`` when it cannot be read or is not a P-384 key, ``MMF-412`` when others may read the
            file, ``MMF-413`` when the passphrase is missing or wrong.
        """
        key = _load_private(path, passphrase)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp384r1":
            raise NetworkError("MMF-411", "not a P-384 private key", str(path))
        return SiteKey(key)

    def save(self, path: Path, passphrase: str | None = None) -> None:
        """Write the key file, readable by its owner only.

        Raises
        ------
        NetworkError
            ``MMF-413`` when the passphrase is longer than 1023 bytes.
        OSError
            When the disk refuses; an older file is then untouched.
        """
        _save_private(self.key, path, passphrase)

    @property
    def public(self) -> SitePublicKey:
        """The public half."""
        return SitePublicKey(self.key.public_key())

    def sign(self, content: bytes) -> bytes:
        """Sign bytes (ECDSA with SHA-384)."""
        return self.key.sign(content, ec.ECDSA(hashes.SHA384()))


@dataclass(frozen=True)
class CoordinatorPublicKey:
    """The coordinator's public key, which sites hold from enrolment on."""

    key: Ed25519PublicKey

    @staticmethod
    def from_hex(text: str) -> CoordinatorPublicKey:
        """Read 32 bytes written in hexadecimal.

        Raises
        ------
        NetworkError
            ``MMF-411`` when they are not.
        """
        try:
            return CoordinatorPublicKey(Ed25519PublicKey.from_public_bytes(bytes.fromhex(text)))
        except ValueError:
            raise NetworkError("MMF-411", "not an Ed25519 public key") from None

    def hex(self) -> str:
        """The key's 32 bytes in hexadecimal."""
        return self.key.public_bytes_raw().hex()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key, in groups that two people can read to each other."""
        return fingerprint(self.key.public_bytes_raw())

    def verify(self, content: bytes, signature: bytes) -> bool:
        """Tell whether the coordinator made this signature over these bytes."""
        try:
            self.key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class CoordinatorKey:
    """The coordinator's private key."""

    key: Ed25519PrivateKey

    @staticmethod
    def generate() -> CoordinatorKey:
        """Make a new key from the operating system's random source."""
        return CoordinatorKey(Ed25519PrivateKey.generate())

    @staticmethod
    def load(path: Path, passphrase: str | None = None) -> CoordinatorKey:
        """Read a key file; errors as in :meth:`SiteKey.load`."""
        key = _load_private(path, passphrase)
        if not isinstance(key, Ed25519PrivateKey):
            raise NetworkError("MMF-411", "not an Ed25519 private key", str(path))
        return CoordinatorKey(key)

    def save(self, path: Path, passphrase: str | None = None) -> None:
        """Write the key file, readable by its owner only; errors as in :meth:`SiteKey.save`."""
        _save_private(self.key, path, passphrase)

    @property
    def public(self) -> CoordinatorPublicKey:
        """The public half."""
        return CoordinatorPublicKey(self.key.public_key())

    def sign(self, content: bytes) -> bytes:
        """Sign bytes."""
        return self.key.sign(content)


def fingerprint(content: bytes) -> str:
    """SHA-256 in hexadecimal, in 16 groups of four digits."""
    digits = hashlib.sha256(content).hexdigest()
    return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))


def _load_private(path: Path, passphrase: str | None) -> object:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise NetworkError("MMF-412", "others than its owner may read the key", str(path))
            content = file.read(MOST_KEY_BYTES)
    except OSError as error:
        raise NetworkError("MMF-411", f"the key cannot be read: {error.strerror}", str(path)) from None
    try:
        return serialization.load_pem_private_key(content, passphrase.encode() if passphrase else None)
    except TypeError:
        raise NetworkError("MMF-413", "the passphrase is missing, or the key has none", str(path)) from None
    except (ValueError, UnsupportedAlgorithm):
        if passphrase and b"ENCRYPTED" in content:
            raise NetworkError("MMF-413", "the passphrase does not open the key", str(path)) from None
        raise NetworkError("MMF-411", "not a private key in PEM form", str(path)) from None


def _save_private(
    key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, path: Path, passphrase: str | None
) -> None:
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        if len(passphrase.encode()) > MOST_PASSPHRASE_BYTES:
            raise NetworkError("MMF-413", f"longer than {MOST_PASSPHRASE_BYTES} bytes", str(path))
        protection = serialization.BestAvailableEncryption(passphrase.encode())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    write_durably(path, pem, PRIVATE_MODE)
