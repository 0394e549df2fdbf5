"""Faults on the way to the server: proxy, name, port, TLS, certificate, clock, what answers."""

# ruff: noqa: E501  (one case a line)

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.types import ASGIApp
from tests.client.preflight.planting import NOT_FOUND, Bench, Plant, Planted, authority_of
from tests.client.preflight.small_site import Site

from mmfed_client.preflight import State
from mmfed_common.names import utc_now
from mmfed_server.federation.certificates import Authority, certificate_pem, key_pem
from mmfed_simulations.processes.programs import free_port

DATED = b"HTTP/1.1 404 Not Found\r\nDate: %s\r\nContent-Length: 0\r\n\r\n"


def address(text: str) -> Plant:
    """Let site.toml name another server."""
    return lambda site, bench: site.edit_config(address=text)


def proxy(url: str) -> Plant:
    """Name a proxy in the environment."""
    return lambda site, bench: bench.patch.setenv("HTTPS_PROXY", url)


def proxy_that_says(answer: bytes) -> Plant:
    """Name a proxy that answers so."""

    def plant(site: Site, bench: Bench) -> None:
        bench.patch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{bench.serve(answer)}")

    return plant


def server(answer: bytes = NOT_FOUND, names: tuple[str, ...] = ("localhost",), days: float = 0.0) -> Plant:
    """Put a server with the federation's certificate in the place of the real one; made so many days ago."""

    def plant(site: Site, bench: Bench) -> None:
        context = bench.tls(authority_of(site.coordinator), list(names), utc_now() - timedelta(days=days))
        site.edit_config(address=f"localhost:{bench.serve(answer, context)}")

    return plant


def server_ending_in(days: float) -> Plant:
    """Present a certificate of the federation that ends in so many days."""

    def plant(site: Site, bench: Bench) -> None:
        authority = authority_of(site.coordinator)
        made, _ = authority.issue(["localhost"], utc_now())
        life = (made.not_valid_after_utc - utc_now()).total_seconds() / 86400.0
        server(_dated(), days=life - days)(site, bench)

    return plant


def _dated() -> bytes:
    return DATED % utc_now().strftime("%a, %d %b %Y %H:%M:%S GMT").encode()


def server_not_yet(site: Site, bench: Bench) -> None:
    server(_dated(), days=-3)(site, bench)


def intercepted_by(name: str) -> Plant:
    """Present a certificate of another authority."""

    def plant(site: Site, bench: Bench) -> None:
        context = bench.tls(Authority.create(name, utc_now()), ["localhost"], utc_now())
        site.edit_config(address=f"localhost:{bench.serve(NOT_FOUND, context)}")

    return plant


def self_signed(site: Site, bench: Bench) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fritz.box")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(days=1))
        .not_valid_after(utc_now() + timedelta(days=9))
        .sign(key, hashes.SHA256())
    )
    file = bench.folder / "self.pem"
    file.write_bytes(certificate_pem(certificate) + key_pem(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    site.edit_config(address=f"localhost:{bench.serve(NOT_FOUND, context)}")


def nothing_listens(site: Site, bench: Bench) -> None:
    site.edit_config(address=f"localhost:{free_port()}")


def packets_dropped(site: Site, bench: Bench) -> None:
    """Fill a listener's queue, so that the system drops whoever comes next."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    bench.stack.callback(listener.close)
    for _ in range(4):
        waiting = socket.socket()
        waiting.setblocking(False)
        bench.stack.callback(waiting.close)
        with suppress(BlockingIOError):
            waiting.connect(listener.getsockname())
    site.limits = replace(site.limits, connect_seconds=2.0)
    site.edit_config(address=f"127.0.0.1:{listener.getsockname()[1]}")


def speaks(answer: bytes, silent: bool = False) -> Plant:
    """Let something without TLS listen at the address."""

    def plant(site: Site, bench: Bench) -> None:
        if silent:
            site.limits = replace(site.limits, connect_seconds=2.0)
        site.edit_config(address=f"localhost:{bench.serve(answer, silent=silent, until=b'')}")

    return plant


def old_tls(site: Site, bench: Bench) -> None:
    context = bench.tls(authority_of(site.coordinator), ["localhost"], utc_now())
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    site.edit_config(address=f"localhost:{bench.serve(NOT_FOUND, context)}")


def ahead(seconds: float) -> Plant:
    """Set the site's clock so many seconds ahead."""

    def plant(site: Site, bench: Bench) -> None:
        site.ahead = timedelta(seconds=seconds)

    return plant


def other_name(site: Site, bench: Bench) -> None:
    """Reach the server under an address that is not in its certificate."""
    context = bench.tls(authority_of(site.coordinator), ["fed.example", "10.1.2.3"], utc_now())
    site.edit_config(address=f"localhost:{bench.serve(_dated(), context)}")


def gateway(status: int) -> Plant:
    """Put a gateway between site and portal that answers by itself."""

    async def answering(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"<html>Bad Gateway</html>"})

    def wrap(app: ASGIApp) -> ASGIApp:
        return answering

    def plant(site: Site, bench: Bench) -> None:
        site.coordinator.wrap = wrap

    return plant


def garbled(site: Site, bench: Bench) -> None:
    server(b"220 mail.example ESMTP\r\n\r\n")(site, bench)


def revoked(site: Site, bench: Bench) -> None:
    site.coordinator.registry.revoke(site.home.config.site)


def other_study(site: Site, bench: Bench) -> None:
    site.content["study"]["seed"] = 8
    site.coordinator.offers.put(site.coordinator.sign(site.study))


ASKS = b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="hospital"\r\nContent-Length: 0\r\n\r\n'
DENIES = b"HTTP/1.1 403 Forbidden\r\nVia: squid\r\nContent-Length: 0\r\n\r\n"
FAILS = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
PLAIN = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
NO_DATE = frozenset({"MMF-499", "MMF-439", "MMF-430", "MMF-428"})
FAULTS: dict[str, Planted] = {
    "proxy of another kind": Planted(
        proxy("socks5://127.0.0.1:1080"), "proxy", "MMF-490", "HTTPS_PROXY=http://", "socks5"
    ),
    "proxy without host": Planted(proxy("http://"), "proxy", "MMF-490", "HTTPS_PROXY=http://", "no host"),
    "proxy with a bad port": Planted(
        proxy("http://proxy:31x8"), "proxy", "MMF-490", "HTTPS_PROXY=http://", "no address"
    ),
    "proxy not answering": Planted(
        proxy("http://127.0.0.1:9"), "proxy", "MMF-490", "HTTPS_PROXY=http://", "does not answer"
    ),
    "proxy asks for a password": Planted(
        proxy_that_says(ASKS), "proxy", "MMF-491", "HTTPS_PROXY=http://USER:PASSWORD@", "407"
    ),
    "proxy forbids": Planted(proxy_that_says(DENIES), "proxy", "MMF-491", "allow CONNECT", "403"),
    "proxy cannot reach": Planted(
        proxy_that_says(FAILS), "proxy", "MMF-491", "why the proxy does not reach", "503"
    ),
    "no proxy at all": Planted(
        proxy_that_says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        "proxy",
        "MMF-490",
        "HTTPS_PROXY=http://",
        "is no proxy",
    ),
    "unknown name": Planted(
        address("no-such-host.invalid:443"), "server reachable", "MMF-492", "DNS", "no-such-host.invalid"
    ),
    "nothing listens": Planted(
        nothing_listens, "server reachable", "MMF-493", "outgoing TCP", "nothing listens"
    ),
    "packets dropped": Planted(packets_dropped, "server reachable", "MMF-493", "outgoing TCP", "firewall"),
    "no TLS": Planted(
        speaks(PLAIN), "server's certificate", "MMF-494", "Check the port", "does not speak TLS"
    ),
    "silent port": Planted(
        speaks(b"", silent=True),
        "server's certificate",
        "MMF-494",
        "Check the port",
        "no TLS handshake comes",
    ),
    "TLS 1.1 only": Planted(old_tls, "server's certificate", "MMF-494", "Check the port", "older than 1.2"),
    "intercepted by a known product": Planted(
        intercepted_by("Zscaler Root"), "server's certificate", "MMF-495", "exempt this address", "zscaler"
    ),
    "intercepted by the hospital": Planted(
        intercepted_by("St. Elsewhere"),
        "server's certificate",
        "MMF-495",
        "exempt this address",
        "issuer CN=St. Elsewhere authority",
    ),
    "another key of the same name": Planted(
        intercepted_by("lung"), "server's certificate", "MMF-495", "by telephone", "another key"
    ),
    "signed by itself": Planted(
        self_signed, "server's certificate", "MMF-495", "exempt this address", "signed by itself"
    ),
    "other name": Planted(
        other_name,
        "server's name",
        "MMF-496",
        "into `address` of site.toml",
        "fed.example, 10.1.2.3",
        also=frozenset({"MMF-428", "MMF-429"}),
    ),
    "server's certificate expired": Planted(
        server_ending_in(-3), "certificate's life", "MMF-497", "renew", "expired", also=frozenset({"MMF-429"})
    ),
    "server's certificate ends soon": Planted(
        server_ending_in(9),
        "certificate's life",
        "MMF-497",
        "renew",
        "in 9 day",
        State.WARNING,
        frozenset({"MMF-439"}),
    ),
    "server's certificate not valid yet": Planted(
        server_not_yet, "certificate's life", "MMF-497", "renew", "only from", also=frozenset({"MMF-429"})
    ),
    "clock an hour behind": Planted(
        ahead(-3600), "clock", "MMF-424", "timedatectl", "behind the server's", also=frozenset({"MMF-415"})
    ),
    "clock an hour ahead": Planted(ahead(3600), "clock", "MMF-424", "timedatectl", "ahead of the server's"),
    "clock a minute ahead": Planted(ahead(60), "clock", "MMF-424", "timedatectl", "ahead of", State.WARNING),
    "no time from the server": Planted(
        server(NOT_FOUND), "clock", "MMF-141", "timedatectl", "not measurable", State.WARNING, NO_DATE
    ),
    "gateway answers 502": Planted(gateway(502), "server's answer", "MMF-499", "gateway in front", "502"),
    "portal page answers 200": Planted(gateway(200), "server's answer", "MMF-499", "gateway in front", "200"),
    "another protocol": Planted(
        garbled,
        "server's answer",
        "MMF-499",
        "gateway in front",
        "no answer in HTTP",
        also=frozenset({"MMF-141"}),
    ),
    "site revoked": Planted(revoked, "enrolment", "MMF-439", "new join kit", "does not know this site's key"),
    "another study offered": Planted(
        other_study, "enrolment", "MMF-332", "mmfed-client review", "is offered", State.WARNING
    ),
}
