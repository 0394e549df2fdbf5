"""Flower's in-memory state, with what a federation of hospitals needs beside it.

What is different from Flower's: a site's number follows from its key, so that it stays the same when the
server restarts; a site that comes back is let in at once and is given again what it had not answered; who is
online is measured on a clock that nobody sets; a request's objects stay until its reply is there.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.proto.node_pb2 import NodeInfo
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID, NodeStatus, TaskType
from flwr.supercore.date import now
from flwr.superlink.federation import NoOpFederationManager

from mmfed_common.signing import SitePublicKey
from mmfed_common.wire import message_object, tree_of
from mmfed_server.link.spool import Spool

LEASE = 45.0
"""Seconds of silence after which a site counts as gone."""
MOST_REPLY = 4 * 2**30
MOST_LATE = 1000


@dataclass
class Traffic:
    """Bytes of the bodies of a site's requests and of our answers."""

    up: int = 0
    down: int = 0


@dataclass
class Request:
    """A message that waits for its reply.

    Attributes
    ----------
    stub
        The message without its content.
    objects
        Ids of everything that the site may fetch for it.
    reply
        Id of the reply that is coming or has come.
    missing
        What of the reply has not come yet.
    taken
        Bytes of the reply that came so far.
    too_long
        Whether a reply was refused for its length; no other is taken then.
    """

    stub: Message
    objects: frozenset[str]
    reply: str = ""
    missing: set[str] = field(default_factory=set)
    taken: int = 0
    too_long: bool = False

    @property
    def node(self) -> int:
        """Who should answer."""
        return self.stub.metadata.dst_node_id

    @property
    def run_id(self) -> int:
        """The run it belongs to."""
        return self.stub.metadata.run_id

    @property
    def answered(self) -> bool:
        """Whether the whole reply is here."""
        return bool(self.reply) and not self.missing


class SiteState(InMemoryLinkState):
    """The link's state; every method may be called from any thread.

    Parameters
    ----------
    spool
        Holds the objects of messages.
    lease
        Seconds of silence after which a site counts as gone.
    most_reply
        Most bytes of one reply.
    """

    def __init__(self, spool: Spool, lease: float = LEASE, most_reply: int = MOST_REPLY) -> None:
        super().__init__(NoOpFederationManager(), spool)
        self.spool = spool
        self.lease = lease
        self.most_reply = most_reply
        self.changed = threading.Condition(self.lock)
        self.wake: Callable[[int], None] = _nobody_waits
        self.traffic: dict[int, Traffic] = {}
        self._names: dict[int, str] = {}
        self._keys: dict[bytes, SitePublicKey] = {}
        self._heard: dict[int, float] = {}
        self._requests: dict[str, Request] = {}
        self._sessions: dict[str, Request] = {}
        self._taken: deque[tuple[str, int]] = deque(maxlen=MOST_LATE)
        self._late: deque[tuple[str, str]] = deque(maxlen=MOST_LATE)

    # who may speak

    def set_sites(self, sites: Mapping[str, bytes]) -> None:
        """Let exactly these sites in: name → public key PEM."""
        wanted = {SitePublicKey.from_pem(pem).pem(): name for name, pem in sites.items()}
        with self.changed:
            for pem in [pem for pem in self.node_public_key_to_node_id if pem not in wanted]:
                self._remove_node(pem)
            for pem, name in wanted.items():
                if pem not in self.node_public_key_to_node_id:
                    self._add_node(pem, name)
                self._names[self.node_public_key_to_node_id[pem]] = name
            self.changed.notify_all()

    def _add_node(self, pem: bytes, name: str) -> None:
        node = node_of(pem)
        self._keys[pem] = SitePublicKey.from_pem(pem)
        self.nodes[node] = NodeInfo(
            node_id=node,
            owner_aid=NOOP_FLWR_AID,
            owner_name=NOOP_ACCOUNT_NAME,
            status=NodeStatus.REGISTERED,
            registered_at=now().isoformat(),
            heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL,
            public_key=pem,
            name=name,
        )
        self.node_public_key_to_node_id[pem] = node
        self.owner_to_node_ids.setdefault(NOOP_FLWR_AID, set()).add(node)

    def _remove_node(self, pem: bytes) -> None:
        node = self.node_public_key_to_node_id.pop(pem)
        self._keys.pop(pem)
        self.nodes.pop(node)
        self.owner_to_node_ids[NOOP_FLWR_AID].discard(node)
        self._heard.pop(node, None)
        self.wake(node)

    def key_of(self, pem: bytes) -> SitePublicKey | None:
        """The key that these bytes stand for, when it may speak."""
        return self._keys.get(pem)

    def site_of(self, node: int) -> str:
        """Name of a site that has or had this number; empty when there was none."""
        return self._names.get(node, "")

    # who is there

    def heard(self, node: int) -> None:
        """Note a sign of life."""
        with self.changed:
            new = not self.is_online(node)
            self._heard[node] = time.monotonic()
            self.acknowledge_node_heartbeat(node, HEARTBEAT_DEFAULT_INTERVAL)
            if new:
                self.changed.notify_all()

    def is_online(self, node: int) -> bool:
        """Whether a site was heard of lately and did not take its leave."""
        return node in self.nodes and time.monotonic() - self._heard.get(node, -self.lease) < self.lease

    def online(self) -> dict[str, int]:
        """Site → node, of those that are there."""
        with self.lock:
            return {self._names[node]: node for node in sorted(self.nodes) if self.is_online(node)}

    def activate_node(self, node_id: int, heartbeat_interval: float) -> bool:
        """Let a site in, also when its last connection has not been given up yet."""
        with self.changed:
            if node_id not in self.nodes:
                return False
            self.nodes[node_id].status = NodeStatus.OFFLINE
            for request in self._requests.values():
                if request.node == node_id and not request.answered and not request.too_long:
                    self._drop_reply(request)
                    request.stub.metadata.delivered_at = ""
            return super().activate_node(node_id, heartbeat_interval)

    def deactivate_node(self, node_id: int) -> bool:
        """Note that a site takes its leave."""
        with self.changed:
            self._heard.pop(node_id, None)
            self.changed.notify_all()
            return super().deactivate_node(node_id)

    # runs

    def begin_run(self) -> int:
        """Begin a run, as Flower counts them, and give its number."""
        run_id = self.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        task_id = self.run_ids[run_id].run.primary_task_id
        assert task_id is not None
        self.claim_task(task_id)
        self.activate_task(task_id)
        return run_id

    def _cleanup_expired_task_tokens_locked(self) -> None:
        """The run's strategy is in this process: it cannot be lost without the state."""

    # requests and replies

    def post(self, message: Message, content: list[str]) -> bool:
        """Make a message ready to be fetched.

        Parameters
        ----------
        message
            Its id is set here.
        content
            Ids of the objects of its content, which are in the spool already.

        Returns
        -------
        posted
            False when the site is not known or was never there.
        """
        name, body = message_object(message, content[-1])
        message.metadata.__dict__["_message_id"] = name
        with self.changed:
            stub = remove_content_from_message(message)
            self.spool.preregister(message.metadata.run_id, tree_of([*content, name]))
            self.spool.put(name, body)
            if self.store_message_ins(stub) is None:
                self.spool.delete(name)
                return False
            self._requests[name] = Request(stub, frozenset([*content, name]))
            node = message.metadata.dst_node_id
        self.wake(node)
        return True

    def request(self, name: str) -> Request | None:
        """A message that still waits for its reply, or has one that nobody took."""
        return self._requests.get(name)

    def may_fetch(self, node: int, run_id: int, object_id: str) -> bool:
        """Whether an object belongs to a message of this run for this site."""
        with self.lock:
            waiting = [r for r in self._requests.values() if (r.node, r.run_id) == (node, run_id)]
            return any(object_id in request.objects for request in waiting)

    def reply_begins(self, request: Request, reply: str, session: str, missing: list[str]) -> None:
        """Note that a reply was announced."""
        with self.changed:
            request.reply, request.missing, request.taken = reply, set(missing), 0
            self._sessions = {s: r for s, r in self._sessions.items() if r is not request}
            self._sessions[session] = request
            self.changed.notify_all()

    def session(self, session: str) -> Request | None:
        """The request whose reply is being sent."""
        return self._sessions.get(session)

    def was_taken(self, session: str, node: int) -> bool:
        """Whether the whole reply of this session was here and was taken."""
        return (session, node) in self._taken

    def reply_goes_on(self, request: Request, object_id: str, size: int) -> None:
        """Note that a part of a reply has come, unless the reply was given up meanwhile."""
        with self.changed:
            if object_id not in request.missing:
                return
            request.missing.remove(object_id)
            request.taken += size
            if not request.missing:
                self.changed.notify_all()

    def refuse_length(self, request: Request) -> None:
        """Drop what came of a reply that is too long, and let whoever waits for it know."""
        with self.changed:
            self._drop_reply(request)
            request.too_long = True
            self.changed.notify_all()

    def forget(self, name: str) -> None:
        """End the wait for a reply, and remove request and reply."""
        with self.lock:
            request = self._requests.pop(name, None)
            if request is not None:
                if request.answered:
                    self._taken.extend((s, request.node) for s, r in self._sessions.items() if r is request)
                self._drop_reply(request)
            self.delete_messages({name})
            self.spool.delete(name)

    def _drop_reply(self, request: Request) -> None:
        name = request.stub.metadata.message_id
        reply = self.message_ins_id_to_message_res_id.pop(name, "")
        if reply:
            self.message_res_store.pop(reply, None)
            self.spool.delete(reply)
        self._sessions = {s: r for s, r in self._sessions.items() if r is not request}
        request.reply, request.missing, request.taken = "", set(), 0

    def note_late(self, node: int, kind: str) -> None:
        """Note a reply that nobody waits for."""
        self._late.append((self.site_of(node), kind[:60]))

    def late(self) -> Iterator[tuple[str, str]]:
        """Take the notes of late replies."""
        while self._late:
            yield self._late.popleft()


def node_of(pem: bytes) -> int:
    """A site's number in Flower: 62 bits of the SHA-256 of its public key, never 0 or 1."""
    return (int.from_bytes(hashlib.sha256(pem).digest()[:8], "big") >> 2) + 2


def _nobody_waits(node: int) -> None:
    """Before the port is open."""
