"""Faults that were seen with Flower's own node and server (each ended or lost something there), between real
processes: here the round ends well, or the site is named and comes back by itself."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flwr.app import Message
from flwr.common.constant import ErrorCode
from tests.client.fleet.interference import Line, proxy
from tests.server.link.small_link import SmallLink, echo, end, model, request, wait_until

from mmfed_client.fleet.connection import FleetConnection, Incoming, connect
from mmfed_common.errors import NetworkError
from mmfed_server.link import fleet
from mmfed_server.link.grid import LinkGrid
from mmfed_server.link.link import Link


@pytest.fixture
def small(tmp_path: Path) -> SmallLink:
    return SmallLink(tmp_path, ("north", "south"))


@contextmanager
def running(small: SmallLink, site: str, *words: str, address: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A node as a process."""
    process = small.node(site, *words, address=address)
    try:
        yield process
    finally:
        end(process)


def all_online(link: Link, count: int) -> None:
    wait_until(lambda: len(link.online()) == count, 60)


def round_of(link: Link, grid: LinkGrid, timeout: float = 60, size: int = 4000) -> list[Message]:
    return list(grid.stream([request(node, model(size)) for node in link.online().values()], timeout))


def next_message(connection: FleetConnection) -> Incoming:
    while (incoming := connection.receive()) is None:
        continue
    return incoming


def test_a_site_killed_over_its_work_comes_back_at_once_and_does_it(small: SmallLink) -> None:
    """Flower's node cannot come back within 60 seconds of a kill, and its message is lost."""
    with small.open() as link, running(small, "south"):
        victim = small.node("north", "60")
        try:
            all_online(link, 2)
            grid = link.grid()
            stream = grid.stream([request(node, model(4000)) for node in link.online().values()], 60)
            assert grid.site_of(next(stream).metadata.src_node_id) == "south"
            wait_until((small.folder / "north.pem.working").exists)
            before = link.online()["north"]
        finally:
            end(victim)
        with running(small, "north"):
            began = time.monotonic()
            reply = next(stream)
            assert not reply.has_error()
            assert reply.metadata.src_node_id == before
            assert time.monotonic() - began < 30


def test_a_site_killed_for_good_is_named_when_its_lease_ends(small: SmallLink) -> None:
    small.lease = 3.0
    with small.open() as link:
        victim = small.node("north", "60")
        try:
            all_online(link, 1)
            grid = link.grid()
            stream = grid.stream([request(node, model(4000)) for node in link.online().values()], 60)
            thread = threading.Thread(target=wait_until, args=((small.folder / "north.pem.working").exists,))
            thread.start()
            killer = threading.Thread(target=lambda: (thread.join(), end(victim)))
            killer.start()
            (reply,) = stream
            killer.join()
        finally:
            end(victim)
        assert reply.error.code == ErrorCode.NODE_UNAVAILABLE
        assert grid.site_of(reply.metadata.src_node_id) == "north"


@pytest.mark.parametrize("status", [500, 404, 429, 503])
def test_a_proxy_that_fails_for_a_while_costs_no_round(small: SmallLink, status: int) -> None:
    """One HTTP 500 ends the loop of Flower's node, while its process stays."""
    with small.open() as link, proxy(small) as (address, between), running(small, "north", address=address):
        all_online(link, 1)
        grid = link.grid()
        assert not round_of(link, grid)[0].has_error()
        failures = iter([status] * 3)
        between.status_of = lambda path: next(failures, 0)
        assert not round_of(link, grid, size=2**20)[0].has_error()
        assert next(failures, None) is None


@pytest.mark.parametrize("path", ["pull-messages", "pull-object", "push-messages", "push-object"])
def test_an_answer_that_is_lost_costs_no_round(small: SmallLink, path: str) -> None:
    """The server does its part and the proxy loses the answer: the request is made again."""
    with small.open() as link, proxy(small) as (address, between), running(small, "north", address=address):
        all_online(link, 1)
        grid = link.grid()
        lost = iter([502])
        between.lose = lambda asked: next(lost, 0) if asked.endswith(path) else 0
        assert not round_of(link, grid, 20, size=2**21)[0].has_error()
        assert next(lost, None) is None


def test_a_network_that_is_gone_comes_back(small: SmallLink, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for 90 seconds with a lease of 60, in small: the site is named, comes back, and works."""
    monkeypatch.setattr(fleet, "HOLD", 0.5)  # shorter than the lease, as it is in earnest
    small.lease = 10.0
    with small.open() as link:
        line = Line(small.address)
        with running(small, "north", address=line.address), running(small, "south"):
            all_online(link, 2)
            grid = link.grid()
            north = link.online()["north"]
            assert not any(reply.has_error() for reply in round_of(link, grid))
            line.cut()
            failed = round_of(link, grid)
            assert {grid.site_of(r.metadata.src_node_id): r.has_error() for r in failed} == {
                "north": True,
                "south": False,
            }
            wait_until(lambda: "north" not in link.online(), 60)
            line.mend()
            all_online(link, 2)
            assert link.online()["north"] == north
            assert not any(reply.has_error() for reply in round_of(link, grid))


def test_a_short_cut_costs_no_round(small: SmallLink) -> None:
    """Shorter than the lease, in the middle of an upload: the same round gets the site's reply."""
    with small.open() as link:
        line = Line(small.address)
        with running(small, "north", address=line.address):
            all_online(link, 1)
            grid = link.grid()
            traffic = link.state.traffic[link.online()["north"]]
            began = traffic.up

            def cut() -> None:
                wait_until(lambda: traffic.up > began + 2 * 2**20)
                line.cut()
                time.sleep(1)  # the length of the cut
                line.mend()

            threading.Thread(target=cut).start()
            (reply,) = round_of(link, grid, size=16 * 2**20)
            assert reply.content["arrays"].object_id


def test_a_reply_counts_when_its_site_leaves_at_once(small: SmallLink) -> None:
    """Flower's server looks at who is there before it looks at the replies, and drops this one."""
    with small.open() as link:
        with connect(small.address, small.ca, small.keys["north"]) as connection:
            grid = link.grid()
            (name,) = grid.push_messages([request(connection.node_id, model(4000))])
            incoming = next_message(connection)
            connection.send(incoming, echo(incoming.message))
        assert link.online() == {}
        (reply,) = grid.pull_messages([name])
        assert not reply.has_error()


def test_half_a_reply_is_none(small: SmallLink) -> None:
    """A site that dies in the middle of its upload is asked again; what it had sent is removed."""

    def die_halfway() -> None:
        with connect(small.address, small.ca, small.keys["north"]) as connection:
            names.extend(grid.push_messages([request(connection.node_id, model(2**21))]))
            incoming = next_message(connection)
            reply = echo(incoming.message)
            objects = connection.objects_of(reply)
            broken = [*objects[:2], (objects[2][0], b"another thing"), *objects[3:]]
            connection.send(incoming, reply, broken)

    names: list[str] = []
    with small.open() as link:
        grid = link.grid()
        with pytest.raises(NetworkError) as caught:
            die_halfway()
        assert caught.value.code == "MMF-478"
        (name,) = names
        assert list(grid.pull_messages([name])) == []
        with connect(small.address, small.ca, small.keys["north"]) as again:
            second = next_message(again)
            assert second.message.metadata.message_id == name
            again.send(second, echo(second.message))
            (found,) = grid.pull_messages([name])
            assert found.content["arrays"] == second.message.content["arrays"]
        assert len(link.state.spool) == 0


def test_a_server_that_starts_again_asks_again(small: SmallLink) -> None:
    """Between upload and aggregation everything that the server held is lost; the site stays connected."""
    codes: list[str] = []
    seen: list[Message] = []
    stop = threading.Event()

    def site() -> None:
        with connect(small.address, small.ca, small.keys["north"], patience=30) as connection:
            while not stop.is_set():
                if (incoming := connection.receive()) is None:
                    continue
                seen.append(incoming.message)
                reply = echo(incoming.message)
                if len(seen) == 2:
                    restarted.wait(20)
                try:
                    connection.send(incoming, reply)
                except NetworkError as error:
                    codes.append(error.code)

    thread = threading.Thread(target=site, daemon=True)
    restarted = threading.Event()
    with small.open() as first:
        thread.start()
        all_online(first, 1)
        node = first.online()["north"]
        grid = first.grid()
        (name,) = grid.push_messages([request(node, model(4000))])
        wait_until(lambda: first.state.request(name).answered)  # type: ignore[union-attr]
        grid.push_messages([request(node, model(4000))])
        wait_until(lambda: len(seen) == 2)
    with small.open() as second:
        restarted.set()
        all_online(second, 1)
        assert second.online() == {"north": node}
        grid = second.grid()
        assert not round_of(second, grid)[0].has_error()
        stop.set()
        second.state.wake(node)
        thread.join(10)
        assert not thread.is_alive()
    assert codes == ["MMF-477"]


def test_two_processes_with_one_key_do_not_lose_a_message(small: SmallLink) -> None:
    """The one that asked last is given the work."""
    with (
        small.open() as link,
        connect(small.address, small.ca, small.keys["north"]) as old,
        connect(small.address, small.ca, small.keys["north"]) as new,
    ):
        found: dict[str, Incoming | None] = {}

        def listen(name: str, ask: Callable[[], Incoming | None]) -> None:
            found[name] = ask()

        turns = link._fleet._turns
        threads = []
        for name, ask in (("old", old.receive), ("new", lambda: next_message(new))):
            before = turns[old.node_id]
            threads.append(threading.Thread(target=listen, args=(name, ask)))
            threads[-1].start()
            wait_until(lambda before=before: turns[old.node_id] > before)  # type: ignore[misc]
        link.grid().push_messages([request(new.node_id, model(400))])
        for thread in threads:
            thread.join(60)
        assert found["old"] is None
        assert found["new"] is not None


def test_an_interrupt_ends_a_wait_at_once(small: SmallLink) -> None:
    """Flower's node goes on trying and has to be killed."""
    with small.open() as link, running(small, "north") as process:
        all_online(link, 1)
        began = time.monotonic()
        process.terminate()
        process.wait(60)
        assert time.monotonic() - began < 30


def test_a_connection_leaves_nothing_that_keeps_the_process(small: SmallLink, tmp_path: Path) -> None:
    """No thread of a connection holds up the end of a process, even when the server is gone."""
    script = tmp_path / "short.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom mmfed_client.fleet.connection import connect\n"
        "from mmfed_common.signing import SiteKey\n"
        "with connect(sys.argv[1], Path(sys.argv[2]), SiteKey.load(Path(sys.argv[3]))) as c:\n"
        "    print(c.node_id)\n"
    )
    with small.open() as link:
        words = [sys.executable, str(script), small.address, str(small.ca), str(small.folder / "north.pem")]
        done = subprocess.run(words, check=True, timeout=120, stdout=subprocess.PIPE, text=True)
        node = link.state.get_node_id_by_public_key(small.keys["north"].public.pem())
        assert done.stdout == f"{node}\n"
        assert link.online() == {}
