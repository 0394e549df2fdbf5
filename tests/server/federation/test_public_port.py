"""The portal behind the real port: what is not there and what is not told look the same, byte for byte."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmfed_client.enrolment import PortalClient, join, tls_context_of
from mmfed_client.home import SiteHome
from mmfed_common.errors import NetworkError
from mmfed_server.database import open_database
from mmfed_server.federation import Federation, Offers, SiteRegistry
from mmfed_server.federation.certificates import certificate_pem
from mmfed_server.link.link import Link
from mmfed_server.portal import make_portal
from mmfed_simulations.processes.programs import free_port

ABSENT = "GET /docs HTTP/1.1\r\nHost: localhost\r\n\r\n"
ASKED = [
    "GET /mmfed/v1/offer HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /mmfed/v1/offer HTTP/1.1\r\nHost: localhost\r\nmmfed-site: north\r\nmmfed-signature: 00\r\n\r\n",
    "POST /mmfed/v1/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
    "POST /mmfed/v1/rotate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
    "PUT /mmfed/v1/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    f"GET /mmfed/v1/packs/{'a' * 64} HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /mmfed/v1/packs/%2e%2e%2fca%2fca.key HTTP/1.1\r\nHost: localhost\r\n\r\n",
    f"POST /mmfed/v1/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n{'x' * 20000}",
    "GET /mmfed/v1/offer HTTP/1.1\r\nHost: [\r\n\r\n",
]


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    port = free_port()
    return Federation.create(tmp_path / "f", "lung", f"localhost:{port}", listen=f"127.0.0.1:{port}")


@pytest.fixture
def registry(federation: Federation) -> SiteRegistry:
    return SiteRegistry(open_database(federation.database_url))


@pytest.fixture
def link(federation: Federation, registry: SiteRegistry) -> Iterator[Link]:
    portal = make_portal(federation, registry, Offers(federation))
    with Link(federation.listen, federation.certificates, federation.spool, portal) as opened:
        yield opened


def raw(federation: Federation, port: int, request: str) -> bytes:
    """What comes back over TLS, without the date."""
    context = tls_context_of(certificate_pem(federation.ca).decode())
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(request.encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return re.sub(rb"(?i)date: [^\r]*\r\n", b"", answer)


@pytest.mark.parametrize("request_text", ASKED, ids=[text[:40] for text in ASKED])
def test_an_outsider_cannot_tell_the_portal_from_nothing(
    federation: Federation, registry: SiteRegistry, link: Link, request_text: str
) -> None:
    registry.invite("north")
    nothing = raw(federation, link.port, ABSENT)
    assert nothing.startswith(b"HTTP/1.1 404 ")
    assert raw(federation, link.port, request_text) == nothing


def test_sites_come_go_and_change_their_key_while_it_serves(
    federation: Federation, registry: SiteRegistry, link: Link, tmp_path: Path
) -> None:
    homes = {name: SiteHome(tmp_path / name) for name in ("north", "south")}
    for name, home in homes.items():
        kit = federation.write_kit(federation.kit(registry.invite(name)), tmp_path / f"{name}.kit")
        join(kit, home)
    assert set(registry.keys()) == {"north", "south"}
    registry.begin_rotation("south")
    PortalClient(homes["south"]).rotate()
    registry.revoke("north")
    assert PortalClient(homes["south"]).offer() is None
    with pytest.raises(NetworkError, match="MMF-439"):
        PortalClient(homes["north"]).offer()


def test_a_new_certificate_is_shown_without_a_restart(
    federation: Federation, registry: SiteRegistry, link: Link, tmp_path: Path
) -> None:
    kit = federation.write_kit(federation.kit(registry.invite("north")), tmp_path / "north.kit")
    join(kit, SiteHome(tmp_path / "north"))
    serial = federation.rotate_server_certificate().serial_number
    link.reload_certificates()
    context = tls_context_of(certificate_pem(federation.ca).decode())
    with (
        socket.create_connection(("127.0.0.1", link.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        assert int(str(connection.getpeercert()["serialNumber"]), 16) == serial  # type: ignore[index]
    assert PortalClient(SiteHome(tmp_path / "north")).offer() is None
