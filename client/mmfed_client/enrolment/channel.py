"""HTTPS requests to the portal; every way in which they can fail becomes a code.

The variables HTTPS_PROXY and NO_PROXY are honoured. Redirects are not followed, answers are bounded in size
and in time.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from mmfed_common.error_codes import CODES
from mmfed_common.errors import NetworkError
from mmfed_common.names import parse_time, utc_now
from mmfed_common.portal_protocol import STANDS_STILL, Refusal

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
MOST_SECONDS = 120.0
"""For a whole answer that is no knowledge pack."""
CHUNK = 256 * 1024

LOST = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, BrokenPipeError)
LOST_BY_HTTP = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError, httpx.CloseError)
"""How a connection breaks; not among them: nobody answers, no way leads there, it takes too long."""

PLAIN = {"accept-encoding": "identity"}

TOLD = {
    "MMF-411": "the server cannot read the key, or its signature does not fit",
    "MMF-420": "the server says that the kit has expired",
    "MMF-421": "the kit's secret was used with another key",
    "MMF-435": "the server says that the site is not enrolled",
    "MMF-437": "the server has seen this key before",
    "MMF-565": "the server keeps no such study",
    "MMF-438": "the coordinator has not begun a change of this site's key, or its time is over",
}
"""Codes that the portal may tell a site, and what they mean here."""


class ConnectionLostError(NetworkError):
    """``MMF-428``: a connection that stood broke before the answer was here; another may hold."""


@dataclass(frozen=True)
class Answer:
    """An answer of the portal, read whole."""

    status: int
    content: bytes


@dataclass(frozen=True)
class Channel:
    """Speaks with one server.

    Attributes
    ----------
    address
        ``host:port``.
    context
        From :func:`mmfed_client.enrolment.tls.tls_context`.
    """

    address: str
    context: ssl.SSLContext

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, most_bytes: int
    ) -> Answer:
        """Ask, and read the answer whole.

        Raises
        ------
        NetworkError
            As :meth:`stream`; ``MMF-430`` also when the answer is longer than ``most_bytes``.
        """
        with self.stream(method, path, headers, body, MOST_SECONDS) as (status, chunks):
            content = bytearray()
            for chunk in chunks:
                content += chunk
                if len(content) > most_bytes:
                    raise NetworkError("MMF-430", "the answer is too long", self.address)
            return Answer(status, bytes(content))

    @contextmanager
    def stream(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, most_seconds: float
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Ask, and give the answer's status (200, 204 or 404) and its body piece by piece.

        Raises
        ------
        NetworkError
            ``MMF-428`` when the server cannot be reached or the way breaks, ``MMF-429`` when its certificate
            is not one of the federation, ``MMF-430`` when something else answers, and what the portal tells:
            ``MMF-424`` with the difference of the clocks, ``MMF-442`` and the codes of :data:`TOLD`.
        ConnectionLostError
            ``MMF-428`` when a connection that stood has broken.
        """
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        end = time.monotonic() + most_seconds
        try:
            with (
                httpx.Client(verify=self.context, timeout=timeout) as client,
                client.stream(
                    method, f"https://{self.address}{path}", headers={**PLAIN, **headers}, content=body
                ) as answer,
            ):
                if answer.status_code == 403:
                    self._raise_refusal(_start_of(answer))
                if answer.status_code not in (200, 204, 404):
                    raise NetworkError("MMF-430", f"HTTP status {answer.status_code}", self.address)
                yield answer.status_code, self._until(answer, end)
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            raise self._failure(error) from None

    def _until(self, answer: httpx.Response, end: float) -> Iterator[bytes]:
        for chunk in answer.iter_raw(CHUNK):
            if time.monotonic() > end:
                raise NetworkError("MMF-428", "the answer takes too long", self.address)
            yield chunk

    def _failure(self, error: Exception) -> NetworkError:
        cause: BaseException | None = error
        lost = isinstance(error, LOST_BY_HTTP)
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                hint = " (is this clock right?)" if "valid" in cause.verify_message else ""
                return NetworkError("MMF-429", f"{cause.verify_message}{hint}", self.address)
            if isinstance(cause, LOST):
                lost = True
            elif isinstance(cause, ssl.SSLError):
                return NetworkError("MMF-429", f"TLS: {cause.reason or cause}", self.address)
            cause = cause.__cause__ or cause.__context__
        what = f"{type(error).__name__}: {error}"
        return (ConnectionLostError if lost else NetworkError)("MMF-428", what, self.address)

    def _raise_refusal(self, content: bytes) -> None:
        try:
            refusal = Refusal.model_validate_json(content, strict=True)
            difference = (utc_now() - parse_time(refusal.time)).total_seconds()
        except (ValidationError, ValueError):
            raise NetworkError("MMF-430", "HTTP status 403", self.address) from None
        if refusal.code == "MMF-424":
            way = "ahead of" if difference > 0 else "behind"
            what = f"this clock is {abs(difference):.0f} s {way} the server's ({refusal.time})"
            raise NetworkError("MMF-424", what, self.address)
        if refusal.code in STANDS_STILL:
            raise NetworkError("MMF-442", f"{refusal.code}: {CODES[refusal.code].meaning}", self.address)
        if refusal.code not in TOLD:
            raise NetworkError("MMF-430", "the server refuses with an unknown code", self.address)
        raise NetworkError(refusal.code, TOLD[refusal.code], self.address)


def _start_of(answer: httpx.Response) -> bytes:
    content = b""
    for chunk in answer.iter_raw():
        content += chunk
        if len(content) > 4096:
            break
    return content
