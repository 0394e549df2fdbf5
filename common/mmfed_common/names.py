"""Names, addresses and times as both sides write them; everything that comes from outside is checked here."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime

from mmfed_common.errors import NetworkError

SITE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
FEDERATION_NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$"
SHA256 = r"^[0-9a-f]{64}$"
TIME = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$"

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*")
_TIME_FORM = "%Y-%m-%dT%H:%M:%SZ"
_MOST_HOST = 253


def check_site_name(name: str) -> str:
    """Return a site's name if it is allowed; it can then be neither a path nor markup.

    Raises
    ------
    NetworkError
        ``MMF-425`` when it is not.
    """
    return _checked(SITE_NAME, name, "a site's name")


def check_federation_name(name: str) -> str:
    """Return a federation's name if it is allowed.

    Raises
    ------
    NetworkError
        ``MMF-425`` when it is not.
    """
    return _checked(FEDERATION_NAME, name, "a federation's name")


def is_sha256(text: str) -> bool:
    """Tell whether a text is a SHA-256 in lower-case hexadecimal."""
    return re.fullmatch(SHA256[1:-1], text) is not None


def split_address(address: str) -> tuple[str, int]:
    """Take ``host:port`` apart; an IPv6 host stands in brackets.

    Raises
    ------
    NetworkError
        ``MMF-425`` when it is not of that form.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else 0
    if not colon or not 1 <= number <= 65535 or not is_host(host) or (":" in host) != bracketed:
        raise NetworkError("MMF-425", f"{address!r} is not of the form host:port")
    return host, number


def is_host(host: str) -> bool:
    """Tell whether a text is a DNS name or an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return len(host) <= _MOST_HOST and _HOST_NAME.fullmatch(host) is not None
    return True


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


def time_text(time: datetime) -> str:
    """Write a time in UTC to the second, e.g. ``2026-05-01T12:00:00Z``."""
    return time.astimezone(UTC).strftime(_TIME_FORM)


def parse_time(text: str) -> datetime:
    """Read a time as :func:`time_text` writes it.

    Raises
    ------
    ValueError
        When it is not of that form.
    """
    return datetime.strptime(text, _TIME_FORM).replace(tzinfo=UTC)


def _checked(pattern: str, name: str, what: str) -> str:
    if re.fullmatch(pattern[1:-1], name) is None:
        raise NetworkError("MMF-425", f"{name[:80]!r} cannot be {what}")
    return name
