"""Who connects and says nothing, or a letter now and then, is sent away; who speaks may stay."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.server.link.small_link import SmallLink

from mmfed_client.fleet.connection import connect
from mmfed_server.link import silence


def open_to(small: SmallLink) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(small.ca))
    return context.wrap_socket(
        socket.create_connection(("127.0.0.1", small.port)), server_hostname="localhost"
    )


def ended(connection: ssl.SSLSocket) -> bool:
    """Whether the other side has closed within 20 seconds."""
    connection.settimeout(20.0)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_half_a_request_does_not_hold_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(silence, "SILENT_SECONDS", 0.5)
    small = SmallLink(tmp_path)
    with small.open(), open_to(small) as connection:
        until = time.monotonic() + 2.0
        with suppress(OSError):
            connection.sendall(said)
            while said and time.monotonic() < until:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert ended(connection)


def test_a_site_that_waits_for_work_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "SILENT_SECONDS", 0.5)
    small = SmallLink(tmp_path)
    with small.open() as link, connect(small.address, small.ca, small.keys["north"]) as site:
        assert site.receive() is None
        assert link.online() == {"north": site.node_id}
