"""What a stranger, a site that is not enrolled and a hostile site can reach: nothing, over real TLS."""

from __future__ import annotations

import datetime
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator

import httpx
import pytest
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    PullMessagesRequest,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import Metadata, ObjectTree, PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto
from flwr.supercore.primitives.asymmetric import sign_message
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata
from google.protobuf.message import Message as Proto
from tests.server.link.small_link import SmallLink, model, request

from mmfed_common.signing import SiteKey
from mmfed_common.wire import CHUNK, OVERHEAD
from mmfed_server.link.link import Link
from mmfed_server.link.state import node_of

SECRET_PATHS = [
    "/",
    "/health",
    "/docs",
    "/openapi.json",
    "/redoc",
    "/metrics",
    "/v1/control/list-runs",
    "/v1/control/register-node",
    "/v1/control/start-run",
    "/v1/runtime/acquire-task",
    "/v1/runtime/pull-messages",
    "/v1/fleet",
    "/v1/fleet/",
    "/v1/fleet/register-node",
    "/v1/fleet/unregister-node",
    "/v1/fleet/get-fab",
    "/v1/fleet/get-run",
    "/v1/fleet/confirm-message-received",
    "/v1/fleet/../control/list-runs",
    "//v1/fleet/pull-messages",
    "/v1/fleet/pull-messages/",
    "/mmfed/v2/",
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallLink:
    return SmallLink(tmp_path_factory.mktemp("door"), ("north", "south"), most_reply=2**20)


@pytest.fixture(scope="module")
def link(small: SmallLink) -> Iterator[Link]:
    with small.open() as found:
        yield found


@pytest.fixture
def http(small: SmallLink, link: Link) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=str(small.ca))
    with httpx.Client(base_url=f"https://{link.address}", verify=context, trust_env=False) as found:
        yield found


def heads(key: SiteKey, *, seconds: float = 0.0, version: str = "") -> dict[str, str]:
    """The head of a request, as of a time that many seconds from now."""
    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    named = RuntimeVersionMetadata.from_local_component("test")
    given = RuntimeVersionMetadata(named.package_name, version or named.package_version, "test")
    return {
        "flwr-public-key": b64encode(key.public.pem()).decode(),
        "flwr-timestamp": when.isoformat(),
        "flwr-signature": b64encode(sign_message(key.key, when.isoformat().encode())).decode(),
        "content-type": "application/protobuf",
        **dict(given.as_metadata()),
    }


def post(http: httpx.Client, path: str, key: SiteKey, body: Proto) -> httpx.Response:
    return http.post(f"/v1/fleet/{path}", headers=heads(key), content=body.SerializeToString())


def activate(http: httpx.Client, key: SiteKey) -> Node:
    found = post(
        http, "activate-node", key, ActivateNodeRequest(public_key=key.public.pem(), heartbeat_interval=30)
    )
    assert found.status_code == 200
    return Node(node_id=ActivateNodeResponse.FromString(found.content).node_id)


@pytest.mark.parametrize("path", SECRET_PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS", "HEAD"])
def test_everything_else_is_not_there(http: httpx.Client, small: SmallLink, method: str, path: str) -> None:
    for headers in ({}, heads(small.keys["north"])):
        found = http.request(method, httpx.URL(str(http.base_url).rstrip("/") + path), headers=headers)
        assert (found.status_code, found.content) == (404, b"")
        assert set(found.headers) <= {"date", "content-length", "connection"}


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS"])
def test_other_methods_are_not_there(http: httpx.Client, small: SmallLink, method: str) -> None:
    found = http.request(method, "/v1/fleet/pull-messages", headers=heads(small.keys["north"]))
    assert (found.status_code, found.content) == (404, b"")


def test_a_stranger_sees_nothing(http: httpx.Client) -> None:
    for path in ("activate-node", "pull-messages", "pull-object", "push-messages", "push-object"):
        found = http.post(f"/v1/fleet/{path}", content=b"")
        assert (found.status_code, found.content) == (404, b"")


def test_an_unknown_key_is_refused(http: httpx.Client) -> None:
    key = SiteKey.generate()
    body = ActivateNodeRequest(public_key=key.public.pem(), heartbeat_interval=30)
    assert post(http, "activate-node", key, body).status_code == 401


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_a_clock_an_hour_off_is_refused(http: httpx.Client, small: SmallLink, seconds: float) -> None:
    found = http.post("/v1/fleet/pull-messages", headers=heads(small.keys["north"], seconds=seconds))
    assert found.status_code == 401


@pytest.mark.parametrize("name", ["flwr-signature", "flwr-timestamp", "flwr-public-key"])
@pytest.mark.parametrize("value", ["", "!", "AAAA", "2026-01-01T00:00:00", "\xff"])
def test_broken_heads_are_refused(http: httpx.Client, small: SmallLink, name: str, value: str) -> None:
    broken = {**heads(small.keys["north"]), name: value}
    encoded = {key: text.encode("latin-1") for key, text in broken.items()}
    assert http.post("/v1/fleet/pull-messages", headers=encoded).status_code == 401


def test_a_signature_by_another_is_refused(http: httpx.Client, small: SmallLink) -> None:
    forged = {**heads(SiteKey.generate()), "flwr-public-key": heads(small.keys["north"])["flwr-public-key"]}
    assert http.post("/v1/fleet/pull-messages", headers=forged).status_code == 401


def test_another_flower_is_refused(http: httpx.Client, small: SmallLink) -> None:
    found = http.post("/v1/fleet/pull-messages", headers=heads(small.keys["north"], version="1.40.0"))
    assert found.status_code == 426


def test_a_site_cannot_ask_for_another(http: httpx.Client, small: SmallLink) -> None:
    north, south = small.keys["north"], Node(node_id=node_of(small.keys["south"].public.pem()))
    assert post(http, "pull-messages", north, PullMessagesRequest(node=south)).status_code == 401
    assert post(http, "pull-object", north, PullObjectRequest(node=south)).status_code == 401
    body = ActivateNodeRequest(public_key=small.keys["south"].public.pem(), heartbeat_interval=30)
    assert post(http, "activate-node", north, body).status_code == 401


def reply(node: int, to: str, *, run: int, src: int, name: str = "ab" * 32) -> PushMessagesRequest:
    """A reply as a site would announce it."""
    metadata = Metadata(
        run_id=run, message_id=name, src_node_id=src, dst_node_id=1, reply_to_message_id=to, ttl=60,
        created_at=time.time(), message_type="train",
    )  # fmt: skip
    return PushMessagesRequest(
        node=Node(node_id=node),
        messages_list=[MessageProto(metadata=metadata, content=RecordDictProto())],
        message_object_trees=[ObjectTree(object_id=name)],
    )


def test_a_site_cannot_speak_as_another_or_as_the_server(
    http: httpx.Client, small: SmallLink, link: Link
) -> None:
    north, south = small.keys["north"], small.keys["south"]
    mine, theirs = activate(http, north).node_id, activate(http, south).node_id
    grid = link.grid()
    name = next(iter(grid.push_messages([request(theirs, model(400))])))
    assert (
        post(http, "push-messages", north, reply(mine, name, run=grid.run_id, src=theirs)).status_code == 401
    )
    assert post(http, "push-messages", north, reply(mine, name, run=grid.run_id, src=1)).status_code == 401
    assert post(http, "push-messages", north, reply(mine, name, run=grid.run_id, src=mine)).status_code == 410
    assert post(http, "push-messages", north, reply(mine, "", run=grid.run_id, src=mine)).status_code == 410
    assert ("north", "train") in grid.late()
    assert post(http, "push-messages", south, reply(theirs, name, run=5, src=theirs)).status_code == 410
    assert link.state.num_message_res() == 0


def test_a_site_gets_its_own_objects_only(http: httpx.Client, small: SmallLink, link: Link) -> None:
    north, south = small.keys["north"], small.keys["south"]
    mine, theirs = activate(http, north), activate(http, south)
    grid = link.grid()
    name = next(iter(grid.push_messages([request(theirs.node_id, model(400))])))
    wanted = PullObjectRequest(node=mine, run_id=grid.run_id, object_id=name)
    assert post(http, "pull-object", north, wanted).status_code == 410
    assert post(
        http, "pull-object", south, PullObjectRequest(node=theirs, run_id=grid.run_id, object_id=name)
    ).is_success
    wrong_run = PullObjectRequest(node=theirs, run_id=1, object_id=name)
    assert post(http, "pull-object", south, wrong_run).status_code == 410


def test_a_reply_may_not_be_too_long_nor_another_than_announced(
    http: httpx.Client, small: SmallLink, link: Link
) -> None:
    north = small.keys["north"]
    mine = activate(http, north)
    grid = link.grid()
    name = next(iter(grid.push_messages([request(mine.node_id, model(400))])))
    began = post(http, "push-messages", north, reply(mine.node_id, name, run=grid.run_id, src=mine.node_id))
    session = PushMessagesResponse.FromString(began.content).session_id
    push = PushObjectRequest(
        node=mine, run_id=grid.run_id, object_id="ab" * 32, object_content=b"x" * 100, session_id=session
    )
    assert post(http, "push-object", north, push).status_code == 507
    push.object_content = b"x" * CHUNK
    assert post(http, "push-object", north, push).status_code == 507
    for _ in range(3):
        link.state.session(session).taken += CHUNK  # type: ignore[union-attr]
    assert post(http, "push-object", north, push).status_code == 413
    assert post(http, "push-object", north, push).status_code == 410
    south = PushObjectRequest(
        node=activate(http, small.keys["south"]), session_id=session, run_id=grid.run_id
    )
    assert post(http, "push-object", small.keys["south"], south).status_code == 410


def too_many(name: str, mine: int, run: int) -> PushMessagesRequest:
    """The announcement of a reply in a thousand parts."""
    found = reply(mine, name, run=run, src=mine)
    del found.message_object_trees[:]
    parts = [ObjectTree(object_id=f"{n:064x}") for n in range(1000)]
    found.message_object_trees.append(ObjectTree(object_id="ab" * 32, children=parts))
    return found


@pytest.mark.parametrize("announced", [True, False])
def test_who_waits_for_a_reply_that_is_too_long_hears_so_at_once(
    http: httpx.Client, small: SmallLink, link: Link, announced: bool
) -> None:
    north = small.keys["north"]
    mine = activate(http, north)
    grid, kept = link.grid(), len(link.state.spool)
    waiting = grid.stream([request(mine.node_id, model(400))], 60.0)
    (name,) = grid._sent
    if announced:
        begun = post(http, "push-messages", north, too_many(name, mine.node_id, grid.run_id))
        assert begun.status_code == 413
    else:
        begun = post(
            http, "push-messages", north, reply(mine.node_id, name, run=grid.run_id, src=mine.node_id)
        )
        session = PushMessagesResponse.FromString(begun.content).session_id
        link.state.session(session).taken = 2**20  # type: ignore[union-attr]
        push = PushObjectRequest(
            node=mine, run_id=grid.run_id, object_id="ab" * 32, object_content=b"x", session_id=session
        )
        assert post(http, "push-object", north, push).status_code == 413
    again = post(http, "push-messages", north, reply(mine.node_id, name, run=grid.run_id, src=mine.node_id))
    assert again.status_code == 410
    found = next(waiting)
    assert found.metadata.src_node_id == mine.node_id
    assert found.error.reason is not None
    assert found.error.reason.startswith("MMF-466")
    assert len(link.state.spool) == kept


def test_trees_that_are_none_are_refused(http: httpx.Client, small: SmallLink, link: Link) -> None:
    north = small.keys["north"]
    mine = activate(http, north).node_id
    grid = link.grid()
    name = next(iter(grid.push_messages([request(mine, model(400))])))
    good = reply(mine, name, run=grid.run_id, src=mine)
    for tree in (
        ObjectTree(object_id="cd" * 32),
        ObjectTree(object_id="ab" * 32, children=[ObjectTree(object_id="../../etc/passwd")]),
    ):
        del good.message_object_trees[:]
        good.message_object_trees.append(tree)
        assert post(http, "push-messages", north, good).status_code in {400, 409}


def test_rubbish_is_refused(http: httpx.Client, small: SmallLink) -> None:
    found = http.post("/v1/fleet/pull-messages", headers=heads(small.keys["north"]), content=b"\xff" * 50)
    assert found.status_code == 400


def test_a_long_body_is_refused_unread(http: httpx.Client, small: SmallLink) -> None:
    hundred = b"x" * 2**20
    for path, status in (("activate-node", 413), ("push-object", 413)):
        headers = {**heads(small.keys["north"]), "content-length": str(100 * len(hundred))}
        sent = 0

        def body() -> Iterator[bytes]:
            nonlocal sent
            for _ in range(100):
                sent += 1
                yield hundred

        try:
            found = http.post(f"/v1/fleet/{path}", headers=headers, content=body())
        except httpx.TransportError:
            assert sent < 100
        else:
            assert found.status_code == status


def test_a_long_body_without_a_length_is_refused(http: httpx.Client, small: SmallLink) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(10):
            yield b"x" * (CHUNK + OVERHEAD)

    try:
        found = http.post("/v1/fleet/push-object", headers=heads(small.keys["north"]), content=body())
    except httpx.TransportError:
        return
    assert found.status_code == 413


def test_the_portal_is_reached_with_short_bodies_only(http: httpx.Client) -> None:
    assert http.post("/mmfed/v1/join", content=b"x" * 1000).content == b"/mmfed/v1/join"
    assert http.post("/mmfed/v1/join", content=b"x" * (2**20 + 1)).status_code == 413


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(small: SmallLink, link: Link, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(small.ca))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with httpx.Client(verify=context, trust_env=False) as http, pytest.raises(httpx.ConnectError):
        http.get(f"https://{link.address}/")


def test_weak_ciphers_are_refused(small: SmallLink, link: Link) -> None:
    context = ssl.create_default_context(cafile=str(small.ca))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:AES256-SHA:ECDHE-ECDSA-AES256-SHA")
    with httpx.Client(verify=context, trust_env=False) as http, pytest.raises(httpx.ConnectError):
        http.get(f"https://{link.address}/")


def test_plain_http_is_no_door(link: Link) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{link.address}/v1/fleet/pull-messages", trust_env=False)
