"""A site's connection to the server, over Flower's fleet interface.

Flower's own connection ends the process on a refused key, ends its loop on one failed request and cannot be
interrupted while it tries again. This one raises, and leaves it to its caller to begin anew.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supernode.fleet_http_client import FleetHttpClient

from mmfed_client.fleet.answers import fit_to_read
from mmfed_client.fleet.faults import PASSING, fault_of
from mmfed_client.fleet.identity import Identity
from mmfed_client.fleet.objects import objects_of
from mmfed_client.fleet.pieces import Pieces
from mmfed_client.logs import about
from mmfed_common.errors import NetworkError, PrivacyError
from mmfed_common.signing import SiteKey
from mmfed_common.wire import UnreadableMessageError, read_message, tree_of

logger = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds for which a call is tried again when the network or the server fails."""
TIMEOUT = httpx.Timeout(20.0, connect=5.0)
PARTING = httpx.Timeout(2.0)
FIRST_WAIT, LONGEST_WAIT = 0.1, 1.0
HEARTBEAT = 10.0
"""Seconds between two signs of life while the site works; the server waits for a minute."""
MOST_MESSAGE = 4 * 2**30
NOBODY_WAITS = "MMF-477"

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


@dataclass(frozen=True)
class Incoming:
    """A message that came, whole.

    Attributes
    ----------
    run_id
        The server's number for its run, which the reply names; it changes when the server starts again.
    """

    message: Message
    run_id: int


class FleetConnection:
    """An open connection; made by :func:`connect`. One thread uses it."""

    def __init__(
        self, client: FleetHttpClient, address: str, key: SiteKey, patience: float, most_message: int
    ) -> None:
        self._client = client
        self._most_message = most_message
        self._address = address
        self._pem = key.public.pem()
        self._patience = patience
        self._node = Node(node_id=0)
        self._stop = threading.Event()
        self._refused: NetworkError | None = None
        self._beats = threading.Thread(target=self._beat, name="mmfed-heartbeat", daemon=True)

    @property
    def node_id(self) -> int:
        """The site's number in Flower; it follows from its public key."""
        return int(self._node.node_id)

    def receive(self) -> Incoming | None:
        """Wait for a message for a few seconds; None when there was none, or it was withdrawn on its way.

        Raises
        ------
        NetworkError
            ``MMF-470`` to ``MMF-476`` as :func:`connect`; ``MMF-479`` when the message is malformed or not
            for this site.
        """
        self._still_welcome()
        request = PullMessagesRequest(node=self._node)
        # What was on its way when a request failed is given again to a node that activates itself anew.
        found = self._call(self._client.PullMessages, request, before_again=self._activate)
        if not found.messages_list:
            return None
        metadata = found.messages_list[0].metadata
        try:
            fetch = self._fetcher(metadata.run_id)
            message = read_message(metadata.message_id, fetch, self._most_message)
        except UnreadableMessageError as error:
            raise NetworkError("MMF-479", str(error), self._address) from None
        except NetworkError as error:
            if error.code != NOBODY_WAITS:
                raise
            logger.info("a message was withdrawn before all of it was here", extra=about(code=error.code))
            self._stop.wait(LONGEST_WAIT)  # whatever the server is at, it is not asked without end
            return None
        if (message.metadata.dst_node_id, message.metadata.run_id) != (self.node_id, metadata.run_id):
            raise NetworkError("MMF-479", "the message is for another site", self._address)
        return Incoming(message, message.metadata.run_id)

    def send(
        self, incoming: Incoming, reply: Message, objects: Sequence[tuple[str, bytes]] | None = None
    ) -> None:
        """Send the reply; returns when the server has all of it, and it counts even if we leave now.

        Parameters
        ----------
        objects
            What :meth:`objects_of` gave for this reply, if the caller has it already.

        Raises
        ------
        NetworkError
            As :func:`connect`; ``MMF-477`` when nobody waits for this answer any more: go on with the next
            message; ``MMF-478`` when the server does not take it.
        """
        self._still_welcome()
        objects = self.objects_of(reply) if objects is None else objects
        names = [name for name, _ in objects]
        head = message_to_proto(remove_content_from_message(reply))
        head.metadata.message_id = names[-1]
        announced = self._call(
            self._client.PushMessages,
            PushMessagesRequest(
                node=self._node,
                messages_list=[head],
                message_object_trees=[tree_of(names)],
                clientapp_runtime_list=[0.0],
            ),
        )
        missing = set(announced.objects_to_push)
        for name, content in objects:
            if name in missing:
                missing.discard(name)
                request = PushObjectRequest(
                    node=self._node,
                    run_id=incoming.run_id,
                    object_id=name,
                    object_content=content,
                    session_id=announced.session_id,
                )
                if not self._call(self._client.PushObject, request).stored:
                    raise NetworkError("MMF-478", "the server does not store it", self._address)

    def objects_of(self, reply: Message) -> list[tuple[str, bytes]]:
        """(object id, bytes) of everything that is pushed for a reply."""
        return objects_of(reply)

    def _fetcher(self, run_id: int) -> Callable[[str], bytes]:
        def fetch(name: str) -> bytes:
            request = PullObjectRequest(node=self._node, run_id=run_id, object_id=name)
            content = self._call(self._client.PullObject, request).object_content
            if hashlib.sha256(content).hexdigest() != name:
                raise UnreadableMessageError("an object is not what its id promises")
            return bytes(content)

        return fetch

    def _call(
        self,
        call: Callable[[Asked], Answered],
        request: Asked,
        *,
        before_again: Callable[[], None] | None = None,
    ) -> Answered:
        """Call the server; what may pass by itself is tried again, for a bounded time."""
        until = time.monotonic() + self._patience
        wait = FIRST_WAIT
        while True:
            try:
                return call(request)
            except (httpx.HTTPError, ValueError) as error:
                fault = fault_of(error, self._address)
            if fault.code not in PASSING or time.monotonic() + wait > until or self._stop.wait(wait):
                raise fault
            wait = min(2 * wait, LONGEST_WAIT)
            if before_again is not None:
                with suppress(NetworkError):
                    before_again()

    def _still_welcome(self) -> None:
        if self._refused is not None:
            raise self._refused

    def _activate(self) -> None:
        request = ActivateNodeRequest(
            public_key=self._pem, heartbeat_interval=float(HEARTBEAT_DEFAULT_INTERVAL)
        )
        try:
            self._node = Node(node_id=self._client.ActivateNode(request).node_id)
        except (httpx.HTTPError, ValueError) as error:
            raise fault_of(error, self._address) from None

    def _open(self) -> None:
        request = ActivateNodeRequest(
            public_key=self._pem, heartbeat_interval=float(HEARTBEAT_DEFAULT_INTERVAL)
        )
        self._node = Node(node_id=self._call(self._client.ActivateNode, request).node_id)
        self._beats.start()

    def _beat(self) -> None:
        request = SendNodeHeartbeatRequest(
            node=self._node, heartbeat_interval=float(HEARTBEAT_DEFAULT_INTERVAL)
        )
        while not self._stop.wait(HEARTBEAT):
            try:
                self._client.SendNodeHeartbeat(request)
            except (httpx.HTTPError, ValueError, RuntimeError) as error:
                fault = fault_of(error, self._address)
                if fault.code == "MMF-472":
                    self._refused = fault
                    return
                logger.info("no sign of life could be given: %s", fault.what)

    def _close(self, *, parting: bool) -> None:
        self._stop.set()
        if parting:
            self._client._client.timeout = PARTING
            try:
                self._client.DeactivateNode(DeactivateNodeRequest(node_id=self._node.node_id))
            except (httpx.HTTPError, ValueError) as error:
                logger.info("could not take leave: %s", type(error).__name__)
        self._client.close()


@contextmanager
def connect(
    address: str, ca: Path, key: SiteKey, *, patience: float = PATIENCE, most_message: int | None = None
) -> Iterator[FleetConnection]:
    """Connect, and stay connected while the context lasts.

    Nothing in here ends the process, raises a signal or tries for ever. The environment's proxy variables are
    honoured. When the context ends well, or by an interrupt, the site takes its leave; so it does when
    nothing may leave it (:class:`PrivacyError`), for nobody is to wait for that. When it ends by another
    error it does not, so that it is given its work again when it comes back.

    Parameters
    ----------
    address
        ``host:port``.
    ca
        The federation's authority; no other is trusted.
    key
        The site's key.
    patience
        Seconds for which a call is tried again when the network or the server fails.
    most_message
        A message of more bytes is refused before it is in memory; default: 4 GiB.

    Raises
    ------
    NetworkError
        Here and from every method: ``MMF-470`` no connection, ``MMF-471`` the certificate is not accepted,
        ``MMF-472`` the key is refused, ``MMF-473`` the clocks differ, ``MMF-474`` server or proxy fail,
        ``MMF-475`` something else answers, ``MMF-476`` another version of Flower.
    """
    trust = _trust(ca, address)
    client = FleetHttpClient(
        f"https://{address}", verify=trust, timeout=20.0, interceptors=[Identity(key), Pieces()]
    )
    client._client.timeout = TIMEOUT
    client._client.follow_redirects = False
    client._client.headers["accept-encoding"] = "identity"
    client._client.event_hooks = {"response": [fit_to_read]}
    connection = FleetConnection(client, address, key, patience, most_message or MOST_MESSAGE)
    parting = False
    try:
        connection._open()
        yield connection
        parting = True
    except (KeyboardInterrupt, SystemExit, PrivacyError):
        parting = True
        raise
    finally:
        connection._close(parting=parting)


def _trust(ca: Path, address: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError):
        raise NetworkError("MMF-471", f"the authority's certificate cannot be read: {ca}", address) from None
    return context
