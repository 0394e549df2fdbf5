"""The items on the way to the server: proxy, name, port, certificate, clock, answer."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPMessage, HTTPResponse

from cryptography import x509

from mmfed_client.enrolment.tls import tls_context
from mmfed_client.preflight.certificate import (
    days_left,
    described,
    inspector,
    is_for,
    issued_by,
    named,
    names_of,
    read_authority,
)
from mmfed_client.preflight.finding import Finding, fault, from_error, not_applicable, ok, warning
from mmfed_client.preflight.route import Proxy, connect, proxy_for, tunnel
from mmfed_client.preflight.subject import Subject
from mmfed_common.errors import NetworkError
from mmfed_common.names import time_text

NO_ADDRESS = "the server's address is not known: see the item home"
NOT_REACHED = "the server was not reached"
NOT_TRUSTED = "what answers did not prove that it is the federation's server"
DATES = (9, 10)
"""OpenSSL's numbers for a certificate that is not yet valid, and one that has expired."""


class ServerProbe:
    """Goes the way to the server step by step; a step that fails leaves nothing to do for the later ones."""

    def __init__(self) -> None:
        self._proxy: Proxy | None = None
        self._blocked = ""
        self._leaf: x509.Certificate | None = None
        self._skew: timedelta | None = None

    def proxy(self, subject: Subject) -> Iterator[Finding]:
        """Which proxy the environment names, whether it answers and what it says."""
        address = subject.address
        if address is None:
            self._blocked = NO_ADDRESS
            yield not_applicable(NO_ADDRESS)
            return
        try:
            self._proxy = proxy_for(*address)
        except NetworkError as error:
            self._blocked = NOT_REACHED
            yield from_error(error)
            return
        proxy = self._proxy
        if proxy is None:
            yield ok("no proxy is used for this address")
            return
        where = f"{proxy.variable}={proxy.shown}"
        try:
            opened, answer = tunnel(proxy, *address, subject.limits.connect_seconds)
        except OSError as error:
            self._blocked = NOT_REACHED
            yield fault("MMF-490", f"the proxy does not answer: {_reason(error)}", where)
            return
        except NetworkError as error:
            self._blocked = NOT_REACHED
            yield from_error(error)
            return
        opened.close()
        if 200 <= answer.status < 300:
            yield ok(f"the proxy passes through to {subject.shown_address}: {answer.sentence}", where)
            return
        self._blocked = NOT_REACHED
        yield _refused_by_proxy(answer.status, answer.sentence, where, subject.shown_address)

    def reach(self, subject: Subject) -> Iterator[Finding]:
        """Whether the name is known and the port answers."""
        if self._blocked or subject.address is None:
            yield not_applicable(self._blocked or NO_ADDRESS)
            return
        host, port = subject.address
        where = subject.shown_address
        if self._proxy is not None:
            yield ok("reached through the proxy", where)
            return
        self._blocked = NOT_REACHED
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            yield fault("MMF-492", f"{host!r} is not known: {_reason(error)}", where)
            return
        began = time.monotonic()
        try:
            connect(host, port, subject.limits.connect_seconds).close()
        except OSError as error:
            yield fault("MMF-493", _no_connection(error), where)
            return
        self._blocked = ""
        yield ok(f"reached in {1000 * (time.monotonic() - began):.0f} ms", where)

    def certificate(self, subject: Subject) -> Iterator[Finding]:
        """Whether the certificate that is presented comes from the federation's authority."""
        if self._blocked:
            yield not_applicable(self._blocked)
            return
        where = subject.shown_address
        try:
            authority = read_authority(subject.home.ca_file)
        except NetworkError as error:
            self._blocked = "the federation's authority is not known: see the item trust"
            yield not_applicable(f"{self._blocked}: {error.what}", where)
            return
        self._blocked = NOT_TRUSTED
        try:
            leaf, version = self._handshake(subject)
        except (OSError, NetworkError) as error:
            yield _no_tls(error, where)
            return
        if not issued_by(leaf, authority):
            yield _intercepted(leaf, authority, where)
            return
        self._leaf, self._blocked = leaf, ""
        yield ok(f"{described(leaf)}; {version}", where)

    def name(self, subject: Subject) -> Iterator[Finding]:
        """Whether the certificate is for this host, and OpenSSL agrees with everything else in it."""
        leaf, address = self._leaf, subject.address
        if self._blocked or leaf is None or address is None:
            yield not_applicable(self._blocked or NOT_TRUSTED)
            return
        names, where = ", ".join(names_of(leaf)) or "no name at all", subject.shown_address
        if not is_for(leaf, address[0]):
            yield fault("MMF-496", f"the certificate is for {names}, not for {address[0]}", where)
            return
        try:
            with self._encrypted(subject, tls_context(subject.home)):
                yield ok(f"the certificate is for {names}", where)
        except ssl.SSLCertVerificationError as error:
            if error.verify_code in DATES:
                yield ok(f"the certificate is for {names}", where)
            else:
                yield fault("MMF-495", f"{error.verify_message}: {described(leaf)}", where)
        except (OSError, NetworkError) as error:
            yield _no_tls(error, where)

    def clock(self, subject: Subject) -> Iterator[Finding]:
        """How far the clock is from the server's: the header Date, over TLS."""
        if self._blocked or self._leaf is None:
            yield not_applicable(f"not measurable: {self._blocked or NOT_TRUSTED}")
            return
        where = subject.shown_address
        try:
            before, headers, after = self._ask(subject)
            sent = parsedate_to_datetime(headers.get("Date", ""))
        except (OSError, HTTPException, NetworkError, ValueError) as error:
            yield warning("MMF-141", f"not measurable: no time came ({type(error).__name__})", where)
            return
        if sent.tzinfo is None:
            sent = sent.replace(tzinfo=UTC)
        # Date is cut to whole seconds, so that half a second is its mean error.
        skew = sent + timedelta(seconds=0.5) - (before + (after - before) / 2)
        self._skew = skew
        yield _clock_finding(skew.total_seconds(), sent, subject, where)

    def life(self, subject: Subject) -> Iterator[Finding]:
        """How long the server's certificate is still valid; by the server's clock where that is known."""
        leaf = self._leaf
        if self._blocked or leaf is None:
            yield not_applicable(self._blocked or NOT_TRUSTED)
            return
        now = subject.now() + (self._skew or timedelta())
        left, where = days_left(leaf, now), named(leaf)
        end, start = leaf.not_valid_after_utc, leaf.not_valid_before_utc
        if left <= 0:
            yield fault("MMF-497", f"it expired at {time_text(end)}, {-left:.0f} day(s) ago", where)
        elif start > now:
            yield fault("MMF-497", f"it is valid only from {time_text(start)} on", where)
        elif left <= subject.limits.certificate_warning:
            yield warning("MMF-497", f"it expires at {time_text(end)}, in {left:.0f} day(s)", where)
        else:
            yield ok(f"valid for {left:.0f} more days", where)

    def answer(self, subject: Subject) -> Iterator[Finding]:
        """Whether the coordinator's server answers, and not a gateway for it."""
        if self._blocked or self._leaf is None:
            yield not_applicable(self._blocked or NOT_TRUSTED)
            return
        where = f"https://{subject.shown_address}/"
        try:
            status = self._status(subject)
        except (OSError, HTTPException, NetworkError) as error:
            self._blocked = NOT_REACHED
            yield fault("MMF-499", f"no answer in HTTP: {_reason(error)}", where)
            return
        if status == 404:
            yield ok("the server answers as it should to a stranger: 404", where)
            return
        self._blocked = NOT_REACHED
        yield fault("MMF-499", f"it answers {status}, where the server would answer 404", where)

    @property
    def blocked(self) -> str:
        """Why there is no server to talk to; empty when there is one."""
        return self._blocked

    def _open(self, subject: Subject) -> socket.socket:
        assert subject.address is not None
        seconds = subject.limits.connect_seconds
        if self._proxy is None:
            return connect(*subject.address, seconds)
        opened, answer = tunnel(self._proxy, *subject.address, seconds)
        if not 200 <= answer.status < 300:
            opened.close()
            raise NetworkError("MMF-491", answer.sentence, self._proxy.shown)
        return opened

    def _encrypted(self, subject: Subject, context: ssl.SSLContext) -> ssl.SSLSocket:
        assert subject.address is not None
        opened = self._open(subject)
        try:
            return context.wrap_socket(opened, server_hostname=subject.address[0])
        except OSError:
            opened.close()
            raise

    def _handshake(self, subject: Subject) -> tuple[x509.Certificate, str]:
        """Take whatever certificate is presented: it is compared with the authority's afterwards."""
        with self._encrypted(subject, _any_certificate()) as opened:
            der = opened.getpeercert(binary_form=True)
            version = opened.version() or ""
        if der is None:
            raise NetworkError("MMF-494", "no certificate is presented")
        try:
            return x509.load_der_x509_certificate(der), version
        except ValueError:
            raise NetworkError("MMF-494", "the certificate cannot be read") from None

    def _response(self, subject: Subject) -> HTTPResponse:
        opened = self._encrypted(subject, _any_certificate())
        try:
            der = opened.getpeercert(binary_form=True)
            if der is None or x509.load_der_x509_certificate(der) != self._leaf:
                raise NetworkError("MMF-495", "another certificate is presented than before")
            opened.sendall(
                f"GET / HTTP/1.1\r\nHost: {subject.shown_address}\r\nConnection: close\r\n\r\n".encode()
            )
            response = HTTPResponse(opened)
            response.begin()
        finally:
            opened.close()
        return response

    def _ask(self, subject: Subject) -> tuple[datetime, HTTPMessage, datetime]:
        before = subject.now()
        with self._response(subject) as response:
            return before, response.headers, subject.now()

    def _status(self, subject: Subject) -> int:
        with self._response(subject) as response:
            return response.status


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _refused_by_proxy(status: int, sentence: str, where: str, address: str) -> Finding:
    if status == 407:
        repair = (
            f"Write user and password into the variable: {where.partition('=')[0]}=http://USER:PASSWORD@…"
        )
        return fault("MMF-491", sentence, where, repair)
    if status >= 500:
        repair = (
            f"Ask the network's administrator why the proxy does not reach {address}, and the coordinator "
        )
        return fault("MMF-491", sentence, where, repair + "whether the server runs.")
    repair = f"Ask the network's administrator to allow CONNECT to {address} through this proxy."
    return fault("MMF-491", sentence, where, repair)


def _intercepted(leaf: x509.Certificate, authority: x509.Certificate, where: str) -> Finding:
    product = inspector(leaf)
    hint = f" The issuer's name is one of products for TLS inspection: {product}." if product else ""
    if leaf.issuer == leaf.subject and not product:
        hint = " It is signed by itself."
    elif leaf.issuer == authority.subject:
        hint = " The issuer has the name of the federation's authority, but another key."
    what = f"presented: {described(leaf)}; expected issuer {named(authority)}.{hint}"
    return fault("MMF-495", what, where)


def _no_tls(error: OSError | NetworkError, where: str) -> Finding:
    reason = getattr(error, "reason", None) or ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "RECORD_LAYER_FAILURE"):
        return fault("MMF-494", "what answers does not speak TLS", where)
    if reason in ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "SSLV3_ALERT_HANDSHAKE_FAILURE"):
        return fault("MMF-494", f"only TLS older than 1.2, or no cipher in common ({reason})", where)
    if isinstance(error, TimeoutError):
        return fault("MMF-494", "the port is open, but no TLS handshake comes", where)
    return fault("MMF-494", f"the connection ends in the TLS handshake: {_reason(error)}", where)


def _clock_finding(skew: float, sent: datetime, subject: Subject, where: str) -> Finding:
    direction = "behind" if skew > 0 else "ahead of"
    what = f"the clock is {abs(skew):.1f} s {direction} the server's ({time_text(sent)})"
    if abs(skew) >= subject.limits.clock_fault:
        return fault("MMF-424", what, where)
    if abs(skew) >= subject.limits.clock_warning:
        return warning("MMF-424", what, where)
    return ok(f"within {max(1.0, abs(skew)):.0f} s of the server's clock", where)


def _no_connection(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "the machine answers, but nothing listens on this port"
    if isinstance(error, TimeoutError):
        return "no answer at all: a firewall drops the packets, or the machine is off"
    return f"no connection: {_reason(error)}"


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or getattr(error, "what", None) or str(error)
    return text or type(error).__name__
