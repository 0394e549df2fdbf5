"""What went wrong on the way, told apart so that a person knows what to do."""

from __future__ import annotations

import email.utils
import ssl
import time

import httpx

from mmfed_common.errors import NetworkError

CLOCK_LIMIT = 290.0
"""Seconds; the server lets nobody in whose clock differs by five minutes."""
BY_STATUS = {426: "MMF-476", 410: "MMF-477", 400: "MMF-478", 409: "MMF-478", 413: "MMF-478", 507: "MMF-478"}
PASSING = {"MMF-470", "MMF-474"}
"""Codes of what may pass by itself within seconds."""


def fault_of(error: Exception, address: str) -> NetworkError:
    """Say what an exception of the HTTP client means."""
    if isinstance(error, httpx.HTTPStatusError):
        return _fault_of_status(error.response, address)
    if (fault := _tls_fault(error)) is not None:
        return NetworkError("MMF-471", fault, address)
    if isinstance(error, httpx.ProxyError):
        return NetworkError("MMF-470", f"the proxy does not let us through: {error}", address)
    if isinstance(error, httpx.TransportError):
        return NetworkError("MMF-470", f"no connection ({type(error).__name__}: {error})", address)
    return NetworkError("MMF-475", f"the answer is not one of our server ({type(error).__name__})", address)


def _fault_of_status(response: httpx.Response, address: str) -> NetworkError:
    status = response.status_code
    if status == httpx.codes.UNAUTHORIZED:
        off = _clock_difference(response)
        if abs(off) > CLOCK_LIMIT:
            return NetworkError("MMF-473", f"this machine's clock is {off:+.0f} s off the server's", address)
        return NetworkError("MMF-472", "the key is not enrolled", address)
    if status in BY_STATUS:
        return NetworkError(BY_STATUS[status], f"HTTP {status} {_detail(response)}".rstrip(), address)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return NetworkError("MMF-474", f"HTTP {status}", address)
    return NetworkError("MMF-475", f"HTTP {status}", address)


def _tls_fault(error: BaseException | None) -> str | None:
    """The text of a TLS failure, when that is what ended a connection before it began."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the certificate is not from the federation's authority: {error.verify_message}"
        if isinstance(error, ssl.SSLError) and not isinstance(
            error, ssl.SSLEOFError | ssl.SSLZeroReturnError
        ):
            return f"no secure connection: {error.reason or type(error).__name__}"
        error = error.__cause__ or error.__context__
    return None


def _clock_difference(response: httpx.Response) -> float:
    """Seconds by which this machine is ahead of the server, by the answer's date; 0 when it names none."""
    try:
        theirs = email.utils.parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return 0.0
    return time.time() - theirs


def _detail(response: httpx.Response) -> str:
    """A short plain text from the server, without anything that a terminal would act upon."""
    try:
        text = response.text[:200]
    except httpx.ResponseNotRead:
        text = ""
    return "".join(letter for letter in text if letter.isprintable())
