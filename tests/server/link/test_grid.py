"""The Grid over the link, with real connections: replies as they come, and a name for each that does not."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import PushObjectRequest, PushObjectResponse
from tests.server.link.small_link import (
    SmallLink,
    echo,
    make_authority,
    make_server_certificate,
    model,
    request,
    wait_until,
)

from mmfed_client.fleet.connection import FleetConnection, Incoming, connect
from mmfed_common.errors import NetworkError
from mmfed_common.signing import SiteKey
from mmfed_server.link.grid import LinkGrid
from mmfed_server.link.link import Link

Work = Callable[[FleetConnection, Incoming], None]


@pytest.fixture
def small(tmp_path: Path) -> SmallLink:
    return SmallLink(tmp_path)


@pytest.fixture
def link(small: SmallLink) -> Iterator[Link]:
    with small.open() as found:
        yield found


def answer(connection: FleetConnection, incoming: Incoming) -> None:
    connection.send(incoming, echo(incoming.message))


@contextmanager
def site(small: SmallLink, link: Link, name: str, work: Work = answer) -> Iterator[threading.Thread]:
    """A site in a thread, which does some work for each message; it takes its leave at the end."""
    stop = threading.Event()

    def run() -> None:
        with suppress(SystemExit), connect(small.address, small.ca, small.keys[name]) as connection:
            while not stop.is_set():
                if (incoming := connection.receive()) is not None:
                    work(connection, incoming)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(lambda: name in link.online())
    try:
        yield thread
    finally:
        stop.set()
        if name in link.online():
            link.state.wake(link.online()[name])


@contextmanager
def three(small: SmallLink, link: Link) -> Iterator[LinkGrid]:
    with site(small, link, "north"), site(small, link, "south"), site(small, link, "west"):
        yield link.grid()


def requests(link: Link, size: int = 4000, **config: int) -> list[Message]:
    arrays = model(size)
    return [request(node, arrays, **config) for node in link.online().values()]


def test_every_site_answers(small: SmallLink, link: Link) -> None:
    with three(small, link) as grid:
        for size in (40, 3 * 2**20):
            sent = requests(link, size)
            replies = list(grid.stream(sent, 30))
            assert {grid.site_of(r.metadata.src_node_id) for r in replies} == set(small.sites)
            for reply in replies:
                assert reply.content["arrays"] == sent[0].content["arrays"]
            asked = {message.metadata.message_id: message.metadata.dst_node_id for message in sent}
            assert {r.metadata.reply_to_message_id: r.metadata.src_node_id for r in replies} == asked
        assert len(link.state.spool) == 0
        assert list((small.folder / "spool").iterdir()) == []
        assert link.state.num_message_ins() == link.state.num_message_res() == 0
        assert {site: traffic.up > 3 * 2**20 for site, traffic in link.traffic().items()} == dict.fromkeys(
            small.sites, True
        )


def test_flowers_own_way_of_asking_works(small: SmallLink, link: Link) -> None:
    with three(small, link) as grid:
        assert len(list(grid.send_and_receive(requests(link), timeout=30))) == 3
        names = list(grid.push_messages(requests(link)))
        found: list[Message] = []
        wait_until(lambda: bool(found.extend(grid.pull_messages(names)) or len(found) == 3))
        assert sorted(m.metadata.reply_to_message_id for m in found) == sorted(names)
        assert set(grid.get_node_ids()) == set(link.online().values())
        assert grid.run.run_id == grid.run_id


def test_an_idle_site_hears_of_work_at_once(small: SmallLink, link: Link) -> None:
    with site(small, link, "north"):
        grid = link.grid()
        seconds = []
        for _ in range(5):
            time.sleep(0.1)
            began = time.monotonic()
            assert len(list(grid.stream(requests(link), 30))) == 1
            seconds.append(time.monotonic() - began)
        assert min(seconds) < 0.3


def test_replies_come_one_by_one(small: SmallLink, link: Link) -> None:
    go = threading.Event()

    def slow(connection: FleetConnection, incoming: Incoming) -> None:
        go.wait(120)
        answer(connection, incoming)

    with site(small, link, "north"), site(small, link, "south", slow):
        grid = link.grid()
        sent = requests(link)
        stream = grid.stream(sent, 30)
        assert all(message.metadata.message_id for message in sent)
        assert grid.site_of(next(stream).metadata.src_node_id) == "north"
        go.set()
        assert grid.site_of(next(stream).metadata.src_node_id) == "south"
        assert list(stream) == []


def test_an_error_of_a_site_comes_back_under_its_name(small: SmallLink, link: Link) -> None:
    def fail(connection: FleetConnection, incoming: Incoming) -> None:
        error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "MMF-406 too few")
        connection.send(incoming, Message(error, reply_to=incoming.message))

    with site(small, link, "north", fail):
        grid = link.grid()
        (reply,) = grid.stream(requests(link), 30)
        assert (grid.site_of(reply.metadata.src_node_id), reply.error.reason) == ("north", "MMF-406 too few")


def test_a_site_that_is_not_there_is_named(small: SmallLink, link: Link) -> None:
    from mmfed_server.link.state import node_of

    grid = link.grid()
    never = node_of(small.keys["south"].public.pem())
    began = time.monotonic()
    (reply,) = grid.stream([request(never, model(40))], 30)
    assert reply.error.code == ErrorCode.NODE_UNAVAILABLE
    assert grid.site_of(reply.metadata.src_node_id) == "south"
    (unknown,) = grid.stream([request(12345, model(40))], 30)
    assert unknown.error.code == ErrorCode.NODE_UNAVAILABLE
    assert time.monotonic() - began < 25


def test_a_site_that_leaves_is_named_at_once(small: SmallLink, link: Link) -> None:
    def leave(connection: FleetConnection, incoming: Incoming) -> None:
        sys.exit()

    with site(small, link, "north", leave):
        grid = link.grid()
        began = time.monotonic()
        (reply,) = grid.stream(requests(link), 30)
        assert reply.error.code == ErrorCode.NODE_UNAVAILABLE
        assert time.monotonic() - began < 25


def test_a_reply_that_is_late_is_refused_and_listed(small: SmallLink, link: Link) -> None:
    begun, go, codes = threading.Event(), threading.Event(), []

    def slow(connection: FleetConnection, incoming: Incoming) -> None:
        if incoming.message.content["config"]["round"] == 1:
            begun.set()
            go.wait(120)
        try:
            answer(connection, incoming)
        except NetworkError as error:
            codes.append(error.code)

    with site(small, link, "north", slow):
        grid = link.grid()
        late = grid.stream(requests(link, round=1), 0.5)
        wait_until(begun.is_set, 60)
        assert list(late) == []
        go.set()
        wait_until(lambda: bool(codes), 60)
        assert codes == ["MMF-477"]
        assert grid.late() == [("north", "train")]
        assert grid.late() == []
        assert len(list(grid.stream(requests(link, round=2), 30))) == 1
        assert len(link.state.spool) == 0


def test_what_is_not_a_message_is_the_fault_of_its_site(
    small: SmallLink, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stock Flower node would send such objects: well-formed, but not ours."""
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

    def stock(connection: FleetConnection, incoming: Incoming) -> None:
        reply = echo(incoming.message)
        nested = {name: part.deflate() for name, part in get_all_nested_objects(reply).items()}
        monkeypatch.setattr("mmfed_client.fleet.connection.tree_of", lambda names: _tree(reply))
        connection.send(incoming, reply, list(nested.items()))

    with site(small, link, "north", stock):
        grid = link.grid()
        (reply,) = grid.stream(requests(link), 30)
        assert (reply.error.reason or "").startswith("MMF-487 ")
        assert grid.site_of(reply.metadata.src_node_id) == "north"
        assert len(link.state.spool) == 0


def _tree(message: Message) -> object:
    from flwr.supercore.inflatable.inflatable_object import get_object_tree

    return get_object_tree(message)


def test_a_site_that_is_removed_is_refused_at_once_and_others_stay(small: SmallLink, link: Link) -> None:
    with site(small, link, "south"):
        with connect(small.address, small.ca, small.keys["north"]) as north:
            link.set_sites({name: pem for name, pem in small.public().items() if name != "north"})
            with pytest.raises(NetworkError) as caught:
                north.receive()
            assert caught.value.code == "MMF-472"
            assert set(link.online()) == {"south"}
            link.set_sites(small.public())
        with connect(small.address, small.ca, small.keys["north"]) as north:
            assert set(link.online()) == {"north", "south"}
        assert len(list(link.grid().stream(requests(link), 30))) == 1


def test_a_new_key_replaces_the_old_one_and_the_message_fails(small: SmallLink, link: Link) -> None:
    with connect(small.address, small.ca, small.keys["north"]) as old:
        grid = link.grid()
        stream = grid.stream(requests(link), 30)
        first: list[Message] = []
        waiting = threading.Thread(target=lambda: first.append(next(stream)))
        waiting.start()
        assert old.receive() is not None
        new = SiteKey.generate()
        link.set_sites({**small.public(), "north": new.public.pem()})
        waiting.join(60)
        assert first
        assert first[0].error.code == ErrorCode.NODE_UNAVAILABLE
        assert grid.site_of(first[0].metadata.src_node_id) == "north"
        with connect(small.address, small.ca, new) as found:
            assert link.online() == {"north": found.node_id}


def test_a_new_certificate_is_presented_without_a_restart(small: SmallLink, link: Link) -> None:
    with connect(small.address, small.ca, small.keys["north"]) as old:
        other = small.folder / "other"
        make_server_certificate(other, make_authority(other, "new CA"))
        for name in ("server.pem", "server.key"):
            (other / name).replace(small.folder / name)
        link.reload_certificates()
        assert old.receive() is None
        with pytest.raises(NetworkError) as caught, connect(small.address, small.ca, small.keys["south"]):
            pass
        assert caught.value.code == "MMF-471"
        with connect(small.address, other / "ca.pem", small.keys["south"]):
            assert set(link.online()) == {"north", "south"}


def test_who_comes_while_certificates_change_is_let_in(small: SmallLink, link: Link) -> None:
    """A handshake meets the former pair or the new one, never a certificate without its key."""
    shown, pairs = small.folder / "shown.pem", []
    for _ in range(2):
        made = make_server_certificate(small.folder, small.authority)
        pairs.append(made.cert_path.read_bytes() + made.key_path.read_bytes())
    link.certificates = replace(small.certificates, cert_path=shown, key_path=shown)
    enough = threading.Event()

    def change() -> None:
        for pair in cycle(pairs):
            if enough.is_set():
                return
            shown.write_bytes(pair)
            link.reload_certificates()

    with ThreadPoolExecutor(1) as pool:
        changes = pool.submit(change)
        try:
            seen = {ssl.get_server_certificate(("127.0.0.1", link.port), timeout=20) for _ in range(300)}
        finally:
            enough.set()
        changes.result(20)
    assert len(seen) > 1


def test_a_bad_certificate_leaves_the_former(small: SmallLink, link: Link) -> None:
    (small.folder / "server.pem").write_text("damaged")
    with pytest.raises(NetworkError) as caught:
        link.reload_certificates()
    assert caught.value.code == "MMF-485"
    with connect(small.address, small.ca, small.keys["north"]):
        assert "north" in link.online()


def test_an_address_that_is_taken_is_named(small: SmallLink, link: Link) -> None:
    with pytest.raises(NetworkError) as caught, small.open():
        pass
    assert caught.value.code == "MMF-484"


def test_what_is_sent_again_while_it_is_being_stored_counts_once(
    small: SmallLink, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that breaks after the body, in front of a slow disk."""
    store = link.state.spool.put

    def slowly(object_id: str, object_content: bytes) -> None:
        time.sleep(0.3)
        store(object_id, object_content)

    codes: list[str] = []

    def work(connection: FleetConnection, incoming: Incoming) -> None:
        push = connection._client.PushObject

        def twice(asked: PushObjectRequest) -> PushObjectResponse:
            with ThreadPoolExecutor(2) as pool:
                answers = [pool.submit(push, asked) for _ in range(2)]
            assert answers[0].result().stored
            return answers[1].result()

        monkeypatch.setattr(connection._client, "PushObject", twice)
        monkeypatch.setattr(link.state.spool, "put", slowly)
        try:
            connection.send(incoming, echo(incoming.message))
        except NetworkError as error:
            codes.append(error.code)

    with site(small, link, "north", work):
        (reply,) = link.grid().stream(requests(link), 60)
    assert not codes
    assert not reply.has_error()


def test_a_reply_that_the_disk_does_not_take_ends_the_wait(small: SmallLink, link: Link) -> None:
    codes: list[str] = []

    def work(connection: FleetConnection, incoming: Incoming) -> None:
        (small.folder / "spool").chmod(0o700)
        for file in (small.folder / "spool").iterdir():
            file.unlink()
        (small.folder / "spool").rmdir()
        reply = echo(incoming.message)
        reply.content["arrays"] = model(2**20, arrays=3)  # what was sent out need not be written again
        try:
            connection.send(incoming, reply)
        except NetworkError as error:
            codes.append(error.code)

    with site(small, link, "north", work), pytest.raises(NetworkError) as refused:
        list(link.grid().stream(requests(link, 2**20), 20))
    assert refused.value.code == "MMF-486"
    wait_until(lambda: bool(codes), 60)
    assert codes == ["MMF-478"]


def test_a_name_that_is_no_text_is_answered_and_leaves_no_trace(
    small: SmallLink, link: Link, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever knocks under a name of odd bytes, which a callback for names would print as a failure."""
    context = ssl.create_default_context(cafile=str(small.ca))
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    knock = context.wrap_bio(incoming, outgoing, server_hostname="localhosu")
    with pytest.raises(ssl.SSLWantReadError):
        knock.do_handshake()
    said = outgoing.read().replace(b"localhosu", b"localhos\xf6")
    with socket.create_connection(("127.0.0.1", link.port), timeout=60) as connection:
        connection.sendall(said)
        answer = connection.recv(5)
    assert answer[:1] == b"\x16"  # a handshake, no alert
    assert capfd.readouterr().err == ""
