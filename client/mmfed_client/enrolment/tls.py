"""TLS as a site speaks it: with its federation's authority alone, version 1.2 at least."""

from __future__ import annotations

import ssl

from mmfed_client.home import SiteHome
from mmfed_common.errors import NetworkError

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only; TLS 1.3 has nothing else."""


def tls_context(home: SiteHome) -> ssl.SSLContext:
    """Give the context for a home.

    Raises
    ------
    NetworkError
        ``MMF-423`` when ``trust/ca.pem`` cannot be read.
    """
    try:
        pem = home.ca_file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        raise NetworkError("MMF-423", "cannot be read", str(home.ca_file)) from None
    return tls_context_of(pem, str(home.ca_file))


def tls_context_of(ca_pem: str, where: str = "") -> ssl.SSLContext:
    """Give a context that trusts one authority and nothing that the system trusts.

    Raises
    ------
    NetworkError
        ``MMF-423`` when the text holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError):
        raise NetworkError("MMF-423", "not a certificate", where) from None
    return context
