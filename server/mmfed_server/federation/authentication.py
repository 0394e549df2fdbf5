"""Who speaks to the portal: a site's signature over one request, once, at about the server's time."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mmfed_common.errors import NetworkError
from mmfed_common.names import SITE_NAME, parse_time
from mmfed_common.portal_protocol import (
    CLOCK_TOLERANCE,
    NONCE_HEADER,
    SIGNATURE_HEADER,
    SITE_HEADER,
    TIME_HEADER,
    request_transcript,
)
from mmfed_common.signing import SitePublicKey
from mmfed_server.federation.registry import SiteRegistry
from mmfed_server.federation.tables import SiteRecord

MOST_NONCES = 2048
"""Signed requests that one site may make within twice the clock's tolerance (eight minutes)."""
MOST_COUNTED = 4096
FAILURES_A_MINUTE = 20

_FORMS = {
    SITE_HEADER: re.compile(SITE_NAME[1:-1]),
    TIME_HEADER: re.compile(r"[0-9TZ:-]{20}"),
    NONCE_HEADER: re.compile(r"[0-9a-f]{32}"),
    SIGNATURE_HEADER: re.compile(r"([0-9a-f]{2}){1,128}"),
}


class NotAuthenticatedError(Exception):
    """The request is not from an enrolled site; nothing is said about why."""


@dataclass(frozen=True)
class PortalRequest:
    """What of a request is signed."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass
class Authentication:
    """Checks signed requests.

    Parameters
    ----------
    federation
        The federation's name; it is in every signature.
    registry
        Knows the keys.
    """

    federation: str
    registry: SiteRegistry
    _seen: dict[str, OrderedDict[str, datetime]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def site_of(self, request: PortalRequest) -> SiteRecord:
        """Tell which enrolled site made a request.

        Raises
        ------
        NotAuthenticatedError
            When none did, or the request was seen before.
        NetworkError
            ``MMF-424`` when the site did, and its clock is wrong.
        """
        values = {name: request.headers.get(name, "") for name in _FORMS}
        if not all(form.fullmatch(values[name]) for name, form in _FORMS.items()):
            raise NotAuthenticatedError
        record = self._enrolled(values[SITE_HEADER])
        transcript = request_transcript(
            self.federation,
            record.name,
            request.method,
            request.path,
            values[TIME_HEADER],
            values[NONCE_HEADER],
            request.body,
        )
        key = SitePublicKey.from_pem(record.public_key or b"")
        if not key.verify(transcript, bytes.fromhex(values[SIGNATURE_HEADER])):
            raise NotAuthenticatedError
        now = self.registry.clock()
        check_clock(values[TIME_HEADER], now, record.name)
        self._refuse_replay(record.name, values[NONCE_HEADER], now)
        return record

    def _enrolled(self, name: str) -> SiteRecord:
        try:
            record = self.registry.get(name)
        except NetworkError as error:
            if error.code == "MMF-434":
                raise NotAuthenticatedError from None
            raise
        if record.state != "enrolled" or record.public_key is None:
            raise NotAuthenticatedError
        return record

    def _refuse_replay(self, site: str, nonce: str, now: datetime) -> None:
        with self._lock:
            seen = self._seen.setdefault(site, OrderedDict())
            while seen and next(iter(seen.values())) < now - 2 * CLOCK_TOLERANCE:
                seen.popitem(last=False)
            if nonce in seen or len(seen) >= MOST_NONCES:
                raise NotAuthenticatedError
            seen[nonce] = now


def check_clock(time: str, now: datetime, site: str) -> None:
    """Compare the time that a site wrote with the server's.

    Raises
    ------
    NetworkError
        ``MMF-424`` when they differ by more than four minutes, or it is no time.
    """
    try:
        difference = parse_time(time) - now
    except ValueError:
        raise NetworkError("MMF-424", "the request carries no time", site) from None
    if abs(difference) > CLOCK_TOLERANCE:
        seconds = round(difference.total_seconds())
        raise NetworkError("MMF-424", f"the site's clock differs by {seconds} s", site)


@dataclass
class FailureLimit:
    """Counts failed attempts to join by who made them, and refuses more for a minute; memory is bounded."""

    _failures: OrderedDict[tuple[str, str], list[datetime]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def exceeded(self, who: tuple[str, str], now: datetime) -> bool:
        """Tell whether there were too many failures within the last minute."""
        with self._lock:
            recent = [at for at in self._failures.get(who, []) if at > now - timedelta(minutes=1)]
            return len(recent) >= FAILURES_A_MINUTE

    def count(self, who: tuple[str, str], now: datetime) -> None:
        """Count one failure."""
        with self._lock:
            times = self._failures.setdefault(who, [])
            times.append(now)
            del times[:-FAILURES_A_MINUTE]
            self._failures.move_to_end(who)
            while len(self._failures) > MOST_COUNTED:
                self._failures.popitem(last=False)
