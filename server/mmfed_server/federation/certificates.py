"""The federation's certificate authority and the server's certificate, both on P-384.

The authority vouches for servers of this federation only: its path length is 0 and its certificates are good
for nothing but TLS servers. Its names are not constrained, because sites trust it for this one address only
and a coordinator must be able to move to another name without enrolling every site again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mmfed_common.errors import NetworkError
from mmfed_common.names import is_host

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397
"""What browsers accept for public servers; a habit that keeps rotation practised."""
BACKDATED = timedelta(hours=1)
"""Certificates begin a little earlier, for sites whose clock is late."""


@dataclass(frozen=True)
class Certificates:
    """What the public port shows.

    Attributes
    ----------
    ca_pem
        The authority's certificate, which sites hold.
    cert_path, key_path
        The server's certificate (with its chain, if there is one) and its private key (PEM).
    """

    ca_pem: bytes
    cert_path: Path
    key_path: Path


@dataclass(frozen=True)
class Authority:
    """A certificate authority with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @staticmethod
    def create(federation: str, now: datetime) -> Authority:
        """Make a new authority, valid for ten years."""
        key = ec.generate_private_key(ec.SECP384R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "mmfed"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"{federation} authority"[:64]),
            ]
        )
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(identifier, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
            )
            .sign(key, hashes.SHA384())
        )
        return Authority(certificate, key)

    def issue(
        self, names: Sequence[str], now: datetime
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Make a new key and a certificate for the server.

        Parameters
        ----------
        names
            DNS names and IP addresses under which sites reach it.

        Raises
        ------
        NetworkError
            ``MMF-425`` when a name is neither.
        """
        key = ec.generate_private_key(ec.SECP384R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mmfed server")])
        authority = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            _builder(subject, self.certificate.subject, key.public_key(), now, SERVER_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(general_names(names)), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority), critical=False
            )
            .sign(self.key, hashes.SHA384())
        )
        return certificate, key


def general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    """Give the names of a server's certificate, each once.

    Raises
    ------
    NetworkError
        ``MMF-425`` when one is neither a DNS name nor an IP address, or there is none.
    """
    if not names:
        raise NetworkError("MMF-425", "the server needs at least one name or address")
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        if not is_host(name):
            raise NetworkError("MMF-425", f"{name[:80]!r} is neither a DNS name nor an IP address")
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM, not encrypted: services start without a person."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
