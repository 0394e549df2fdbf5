"""What a certificate says, and whether the federation's authority made it."""

from __future__ import annotations

import hashlib
import ipaddress
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from mmfed_common.errors import NetworkError

INSPECTORS = (
    "zscaler",
    "netskope",
    "palo alto",
    "fortinet",
    "fortigate",
    "sophos",
    "blue coat",
    "bluecoat",
    "symantec web",
    "cisco umbrella",
    "check point",
    "mcafee",
    "trellix",
    "kaspersky",
    "eset",
    "bitdefender",
    "mitmproxy",
    "squid",
    "barracuda",
    "forcepoint",
)
"""Words in the issuer of certificates that products for TLS inspection make."""


def read_authority(path: Path) -> x509.Certificate:
    """Read the certificate of the federation's authority.

    Raises
    ------
    NetworkError
        ``MMF-498`` when it is not there or is no certificate of an authority.
    """
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise NetworkError("MMF-498", f"it cannot be read: {error.strerror}", str(path)) from None
    except ValueError:
        raise NetworkError("MMF-498", "it is no certificate in PEM form", str(path)) from None
    if len(found) != 1:
        raise NetworkError("MMF-498", f"it holds {len(found)} certificates instead of one", str(path))
    try:
        authority = found[0].extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    if not authority:
        raise NetworkError("MMF-498", f"{named(found[0])} is no authority", str(path))
    return found[0]


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, two digits at a time as browsers show it."""
    digest = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def named(certificate: x509.Certificate) -> str:
    """The subject, e.g. ``CN=fed.example``; ``(no name)`` where it is empty."""
    return certificate.subject.rfc4514_string() or "(no name)"


def described(certificate: x509.Certificate) -> str:
    """Subject, issuer and fingerprint: what a network's administrator needs to find the device."""
    issuer = certificate.issuer.rfc4514_string() or "(no name)"
    return f"subject {named(certificate)}; issuer {issuer}; SHA-256 {fingerprint_of(certificate)}"


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Tell whether the authority's key signed the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def inspector(certificate: x509.Certificate) -> str:
    """The product for TLS inspection whose name stands in the issuer; empty where there is none."""
    issuer = certificate.issuer.rfc4514_string().lower()
    return next((name for name in INSPECTORS if name in issuer), "")


def names_of(certificate: x509.Certificate) -> list[str]:
    """Every host name and address that the certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = extension.get_values_for_type(x509.IPAddress)
    return [*extension.get_values_for_type(x509.DNSName), *(str(address) for address in addresses)]


def is_for(certificate: x509.Certificate, host: str) -> bool:
    """Tell whether the certificate is for a host name or an IP address."""
    names = names_of(certificate)
    try:
        wanted = ipaddress.ip_address(host)
    except ValueError:
        host = host.lower().rstrip(".")
        return any(_matches(name.lower(), host) for name in names)
    return str(wanted) in names


def days_left(certificate: x509.Certificate, now: datetime) -> float:
    """Days until the certificate ends; negative when it has ended."""
    return (certificate.not_valid_after_utc - now).total_seconds() / 86400.0


def _matches(name: str, host: str) -> bool:
    if name.startswith("*."):
        first, _, rest = host.partition(".")
        return bool(first) and rest == name[2:]
    return name == host
