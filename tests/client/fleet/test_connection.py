"""A site's connection: what fails is named, nothing hangs, nothing ends the process."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from flwr.app import Message
from flwr.proto.fleet_pb2 import PullMessagesRequest, PullMessagesResponse
from tests.client.fleet.interference import Line, proxy
from tests.pauses import Pauses
from tests.server.link.small_link import SmallLink, echo, make_authority, model, request, wait_until

from mmfed_client.fleet import connection as module
from mmfed_client.fleet.connection import FleetConnection, Incoming, connect
from mmfed_client.fleet.objects import objects_of
from mmfed_common.errors import NetworkError, PrivacyError
from mmfed_common.signing import SiteKey
from mmfed_common.wire import wire_objects
from mmfed_server.link import fleet
from mmfed_server.link.link import Link


@pytest.fixture
def small(tmp_path: Path) -> SmallLink:
    return SmallLink(tmp_path, ("north",))


@pytest.fixture
def link(small: SmallLink) -> Iterator[Link]:
    with small.open() as found:
        yield found


def code_of(
    small: SmallLink, address: str = "", *, ca: Path | None = None, key: SiteKey | None = None
) -> str:
    """Code of what happens when a site connects and asks once; it must happen soon."""
    began = time.monotonic()
    with (
        pytest.raises(NetworkError) as caught,
        connect(address or small.address, ca or small.ca, key or small.keys["north"], patience=0.5) as found,
    ):
        found.receive()
    assert time.monotonic() - began < 60
    return caught.value.code


def ask(link: Link, size: int = 4000) -> threading.Thread:
    """Ask all sites in the background; the replies are the thread's ``replies``."""
    grid = link.grid()
    thread = threading.Thread(target=lambda: replies.extend(grid.stream(sent, 30)), daemon=True)
    replies: list[Message] = []
    sent = [request(node, model(size)) for node in link.online().values()]
    thread.replies = replies  # type: ignore[attr-defined]
    thread.start()
    return thread


def next_message(connection: FleetConnection) -> Incoming:
    """Wait for a message."""
    while (incoming := connection.receive()) is None:
        continue
    return incoming


def test_a_message_comes_whole_and_its_answer_goes(small: SmallLink, link: Link) -> None:
    with connect(small.address, small.ca, small.keys["north"]) as connection:
        thread = ask(link, 3 * 2**20)
        incoming = next_message(connection)
        assert incoming.run_id == incoming.message.metadata.run_id
        assert incoming.message.content["arrays"] == model(3 * 2**20)
        reply = echo(incoming.message)
        connection.send(incoming, reply)
        thread.join(60)
        assert thread.replies[0].content == reply.content  # type: ignore[attr-defined]


def test_what_is_pushed_is_what_the_receipt_names(
    small: SmallLink, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of each push, taken where they are handed to HTTP, equal those that the gate is given."""
    pushed: list[tuple[str, bytes]] = []
    original = module.FleetHttpClient.PushObject

    def push(self: module.FleetHttpClient, request: module.PushObjectRequest) -> object:
        pushed.append((request.object_id, request.object_content))
        return original(self, request)

    monkeypatch.setattr(module.FleetHttpClient, "PushObject", push)
    with connect(small.address, small.ca, small.keys["north"]) as connection:
        thread = ask(link, 3 * 2**20)
        incoming = next_message(connection)
        reply = echo(incoming.message)
        receipt = objects_of(reply)
        connection.send(incoming, reply, receipt)
        thread.join(60)
    assert sorted(pushed) == sorted(receipt)
    assert receipt == list(wire_objects(reply)) == connection.objects_of(reply)


def test_a_message_that_is_withdrawn_on_its_way_is_none(
    small: SmallLink, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a deadline of the round, while a slow site still fetches it: the site stays, for the next."""
    grid = link.grid()
    with connect(small.address, small.ca, small.keys["north"]) as connection:
        node = connection.node_id
        (name,) = grid.push_messages([request(node, model(3 * 2**20))])
        pull = connection._client.PullMessages

        def and_withdraw(asked: PullMessagesRequest) -> PullMessagesResponse:
            found = pull(asked)
            link.state.forget(name)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(connection._client, "PullMessages", and_withdraw)
            assert connection.receive() is None
        thread = ask(link)
        connection.send(incoming := next_message(connection), echo(incoming.message))
        thread.join(60)
        assert not thread.replies[0].has_error()  # type: ignore[attr-defined]


def test_nothing_to_do_is_none_within_seconds(
    small: SmallLink, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "HOLD", 0.5)
    with connect(small.address, small.ca, small.keys["north"]) as connection:
        began = time.monotonic()
        assert connection.receive() is None
        assert time.monotonic() - began < 15  # the server's patience, not that of the site's connection


def test_a_site_takes_its_leave_when_it_ends_well_and_not_when_it_fails(small: SmallLink, link: Link) -> None:
    with connect(small.address, small.ca, small.keys["north"]):
        assert "north" in link.online()
    assert link.online() == {}
    with pytest.raises(ValueError, match="broken"), connect(small.address, small.ca, small.keys["north"]):
        raise ValueError("broken")
    assert "north" in link.online()
    with pytest.raises(KeyboardInterrupt), connect(small.address, small.ca, small.keys["north"]):
        raise KeyboardInterrupt
    assert link.online() == {}
    nothing_may_leave = PrivacyError("MMF-311", "the disk is full")
    with pytest.raises(PrivacyError), connect(small.address, small.ca, small.keys["north"]):
        raise nothing_may_leave
    assert link.online() == {}


def test_no_server(small: SmallLink, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_of(small) == "MMF-470"

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # no question leaves this machine
    assert code_of(small, "no-such-host.invalid:1") == "MMF-470"


def test_another_authority(small: SmallLink, link: Link, tmp_path: Path) -> None:
    make_authority(tmp_path / "other")
    assert code_of(small, ca=tmp_path / "other" / "ca.pem") == "MMF-471"
    assert code_of(small, ca=tmp_path / "absent.pem") == "MMF-471"


def test_a_name_that_the_certificate_lacks(small: SmallLink, link: Link) -> None:
    """The same machine under a name that is not in the certificate."""
    assert code_of(small, f"{socket.gethostname()}:{Line(link.address, '0.0.0.0').port}") == "MMF-471"


def test_only_old_tls(small: SmallLink) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.load_cert_chain(small.certificates.cert_path, small.certificates.key_path)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    raw, _ = server.accept()
                    context.wrap_socket(raw, server_side=True).close()
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        assert code_of(small, f"localhost:{server.getsockname()[1]}") == "MMF-471"


def test_a_key_that_is_not_enrolled(small: SmallLink, link: Link) -> None:
    assert code_of(small, key=SiteKey.generate()) == "MMF-472"


def test_a_clock_that_is_off(small: SmallLink, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    monkeypatch.setattr("mmfed_client.fleet.identity.now", lambda: later)
    monkeypatch.setattr("mmfed_client.fleet.faults.time", SimpleNamespace(time=later.timestamp))
    assert code_of(small) == "MMF-473"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((status, "MMF-474") for status in (500, 502, 503)),
        *((status, "MMF-475") for status in (200, 302, 403, 404, 407, 429)),
        *((426, "MMF-476"), (413, "MMF-478"), (401, "MMF-472"), (410, "MMF-477")),
    ],
)
def test_a_proxy_that_answers_by_itself(small: SmallLink, link: Link, status: int, code: str) -> None:
    with proxy(small) as (address, between):
        between.status_of = lambda path: status
        assert code_of(small, address) == code


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ("200 OK\r\ntransfer-encoding: chunked", "MMF-475"),
        ("200 OK\r\ncontent-length: 99999999999", "MMF-475"),
        ("200 OK\r\ncontent-length: 10\r\ncontent-encoding: gzip", "MMF-475"),
        ("502 Bad Gateway\r\ntransfer-encoding: chunked", "MMF-474"),
        ("413 Too Large\r\ncontent-length: 99999999999", "MMF-478"),
    ],
)
def test_an_answer_without_end_is_not_read(small: SmallLink, head: str, code: str) -> None:
    """A hostile server, or one in its place, cannot fill a site's memory: the body is never read."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(small.certificates.cert_path, small.certificates.key_path)
    sent = 0
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            nonlocal sent
            while True:
                try:
                    raw, _ = server.accept()
                    with context.wrap_socket(raw, server_side=True) as found:
                        found.recv(4096)
                        found.sendall(f"HTTP/1.1 {head}\r\n\r\n".encode())
                        while True:
                            sent += found.send(b"f000\r\n" + b"x" * 0xF000 + b"\r\n")
                except OSError:
                    if server.fileno() < 0:
                        return

        threading.Thread(target=serve, daemon=True).start()
        assert code_of(small, f"localhost:{server.getsockname()[1]}") == code
    assert sent < 50 * 2**20


def test_a_revoked_key_is_noticed_while_the_site_works(
    small: SmallLink, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.05)
    with connect(small.address, small.ca, small.keys["north"]) as connection:
        link.set_sites({})
        wait_until(lambda: connection._refused is not None)
        with pytest.raises(NetworkError) as caught:
            connection.receive()
        assert caught.value.code == "MMF-472"


def test_a_site_that_works_stays_online(
    small: SmallLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.1)
    small.lease = 3.0
    with Pauses() as pauses, small.open() as link, connect(small.address, small.ca, small.keys["north"]):
        until, gone = time.monotonic() + 4.0, 0
        while time.monotonic() < until:
            gone += "north" not in link.online()
            time.sleep(0.02)
    assert not gone or pauses.seconds


@pytest.mark.parametrize("change", [b"", b"x", b"Message  3\x00abc"])
def test_objects_that_are_not_what_was_announced_are_refused(
    small: SmallLink, link: Link, monkeypatch: pytest.MonkeyPatch, change: bytes
) -> None:
    """A hostile server sends other bytes than it named."""
    monkeypatch.setattr(link.state, "get_object", lambda run_id, object_id: change)
    with connect(small.address, small.ca, small.keys["north"]) as connection:
        ask(link)
        with pytest.raises(NetworkError) as caught:
            next_message(connection)
        assert caught.value.code == "MMF-479"


def test_a_message_for_another_site_is_refused(small: SmallLink, link: Link) -> None:
    with connect(small.address, small.ca, small.keys["north"]) as connection:
        original = link.state.get_message_ins

        def swapped(node_id: int, limit: int | None, *, run_id: int | None = None) -> list[Message]:
            found = original(node_id, limit, run_id=run_id)
            connection._node.node_id += bool(found)
            return found

        link.state.get_message_ins = swapped  # type: ignore[method-assign]
        link.state.may_fetch = lambda *_: True  # type: ignore[method-assign]
        ask(link)
        with pytest.raises(NetworkError) as caught:
            next_message(connection)
        assert caught.value.code in {"MMF-479", "MMF-472"}


def test_a_message_that_is_too_long_is_refused(small: SmallLink, link: Link) -> None:
    with connect(small.address, small.ca, small.keys["north"], most_message=1000) as connection:
        ask(link, 40_000)
        with pytest.raises(NetworkError) as caught:
            next_message(connection)
        assert caught.value.code == "MMF-479"


def test_a_clock_that_is_minutes_off_costs_no_reply(
    small: SmallLink, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site's clock 200 s ahead: its reply to a request of 30 s would be too old by Flower's count."""
    from flwr.supercore.date import now

    later = lambda: now() + datetime.timedelta(seconds=200)  # noqa: E731
    with connect(small.address, small.ca, small.keys["north"]) as connection:
        thread = ask(link)
        incoming = next_message(connection)
        monkeypatch.setattr("flwr.app.message.message.now", later)
        reply = echo(incoming.message)
        monkeypatch.undo()
        connection.send(incoming, reply)
        thread.join(60)
        assert not thread.replies[0].has_error()  # type: ignore[attr-defined]


def test_the_proxy_of_the_environment_is_used(
    small: SmallLink, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An HTTPS proxy is asked for a tunnel to the server's address; here it refuses, and is named."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    found, _ = server.accept()
                except OSError:
                    return
                asked.append(found.recv(1000))
                found.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
                found.close()

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert code_of(small) == "MMF-470"
    assert asked[0].startswith(f"CONNECT {small.address} HTTP/1.1".encode())
