"""Flower's fleet interface for sites that are enrolled: its handlers, behind our own door.

The door looks at a caller's key before it reads a byte of the body, and holds the body, the caller and the
objects it names against what that site may do. Of Flower's interface only what a site needs is here; its
control and runtime interfaces are not in this process at all.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from flwr.app import Message
from flwr.common.serde import message_from_proto
from flwr.proto import fleet_pb2 as fleet
from flwr.proto import heartbeat_pb2 as heartbeat
from flwr.proto import message_pb2 as objects
from flwr.supercore.error import FlowerError
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.run import InvalidRunStatusException
from flwr.superlink.servicer.fleet import fleet_handlers
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from google.protobuf.message import Message as Proto
from starlette.types import Receive, Scope, Send

from mmfed_common.errors import NetworkError
from mmfed_common.wire import CHUNK, OVERHEAD
from mmfed_server.link.caller import Caller, Callers, RefusedCallerError
from mmfed_server.link.http import BodyTooLongError, answer, nothing_here, read_body
from mmfed_server.link.state import Request, SiteState, Traffic

logger = logging.getLogger(__name__)

HOLD = 5.0
"""Most seconds that a site's question for messages is held open."""
TREE_BODY = 2**20
"""Most bytes of a request that carries no object."""
TREE_EXTRA = 16
"""Objects of a message that are no chunks, and some more."""


class RefusedError(Exception):
    """A request that is not carried out."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Call:
    """An authenticated request."""

    caller: Caller
    request: Proto
    receive: Receive


Handler = Callable[[Call], Awaitable[Proto]]


class Fleet:
    """The ASGI application."""

    def __init__(self, state: SiteState) -> None:
        self.state = state
        self._closed = False
        self.callers = Callers(state)
        self._events: dict[int, asyncio.Event] = {}
        self._turns: dict[int, int] = {}
        self._storing: dict[tuple[str, str], asyncio.Event] = {}
        self._routes: dict[str, tuple[type[Proto], Handler, int]] = {
            "activate-node": (fleet.ActivateNodeRequest, self._activate, TREE_BODY),
            "deactivate-node": (fleet.DeactivateNodeRequest, self._deactivate, TREE_BODY),
            "send-node-heartbeat": (heartbeat.SendNodeHeartbeatRequest, self._heartbeat, TREE_BODY),
            "pull-messages": (fleet.PullMessagesRequest, self._pull_messages, TREE_BODY),
            "pull-object": (objects.PullObjectRequest, self._pull_object, TREE_BODY),
            "push-messages": (fleet.PushMessagesRequest, self._push_messages, TREE_BODY),
            "push-object": (objects.PushObjectRequest, self._push_object, CHUNK + OVERHEAD),
        }

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let other threads wake those that wait in this loop."""

        def wake(node: int) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._event(node).set)

        self.state.wake = wake

    def close(self) -> None:
        """Send away all who wait."""
        self._closed = True
        for node in list(self._turns):
            self.state.wake(node)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = self._routes.get(scope["path"].removeprefix("/v1/fleet/"))
        if route is None or scope["method"] != "POST":
            await nothing_here(send)
            return
        try:
            caller = self.callers.of(scope)
            if caller is None:
                await nothing_here(send)
                return
            kind, handler, most = route
            request = kind()
            body = await read_body(scope, receive, most)
            size = len(body)
            request.ParseFromString(body)
            del body  # it may be a chunk, and many may wait here for a thread
            self._same(caller, request)
            if not isinstance(request, fleet.DeactivateNodeRequest):
                self.state.heard(caller.node)
            result = (await handler(Call(caller, request, receive))).SerializeToString()
        except RefusedCallerError as refusal:
            await _refuse(send, refusal.status, str(refusal))
        except RefusedError as refusal:
            await _refuse(send, refusal.status, str(refusal))
        except BodyTooLongError:
            await _refuse(send, 413, "the request is too long")
        except DecodeError:
            await _refuse(send, 400, "the request cannot be read")
        except NetworkError as error:
            logger.error("%s %s", error.code, error.what)
            await _refuse(send, 507, "it cannot be kept")
        except (FlowerError, InvalidRunStatusException):
            await _refuse(send, 410, "nothing waits for this")
        else:
            traffic = self.state.traffic.setdefault(caller.node, Traffic())
            traffic.up += size
            traffic.down += len(result)
            await answer(send, 200, result, PROTOBUF_MEDIA_TYPE)

    def _same(self, caller: Caller, request: Proto) -> None:
        """Refuse a site that speaks for another."""
        if isinstance(request, fleet.ActivateNodeRequest):
            same = request.public_key == caller.pem
        elif isinstance(request, fleet.DeactivateNodeRequest):
            same = request.node_id == caller.node
        else:
            same = request.node.node_id == caller.node
        if not same:
            raise RefusedError(401, "the key is another site's")

    async def _activate(self, call: Call) -> Proto:
        self._turn(call.caller.node)
        return fleet_handlers.activate_node(call.request, self.state)

    async def _deactivate(self, call: Call) -> Proto:
        self._turn(call.caller.node)
        return fleet_handlers.deactivate_node(call.request, self.state)

    async def _heartbeat(self, call: Call) -> Proto:
        return fleet_handlers.send_node_heartbeat(call.request, self.state)

    async def _pull_messages(self, call: Call) -> Proto:
        """Wait for a message, for a while; of two who wait for one site, the later one gets it."""
        node = call.caller.node
        turn = self._turn(node)
        event = self._event(node)
        loop = asyncio.get_running_loop()
        until = loop.time() + HOLD
        gone = asyncio.ensure_future(call.receive())
        try:
            while True:
                event.clear()
                if self.state.key_of(call.caller.pem) is None:
                    raise RefusedError(401, "the key is no longer known")
                if self._closed or gone.done():
                    return fleet.PullMessagesResponse()
                if turn != self._turns[node]:
                    await asyncio.wait({gone}, timeout=until - loop.time())
                    return fleet.PullMessagesResponse()
                found = fleet_handlers.pull_messages(call.request, self.state, self.state.spool)
                left = until - loop.time()
                if found.messages_list or left <= 0:
                    return found
                woken = asyncio.ensure_future(event.wait())
                await asyncio.wait({woken, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
        finally:
            gone.cancel()

    async def _pull_object(self, call: Call) -> Proto:
        if not self.state.may_fetch(call.caller.node, call.request.run_id, call.request.object_id):
            raise RefusedError(410, "no such object waits for this site")
        found = await asyncio.to_thread(fleet_handlers.pull_object, call.request, self.state)
        if not found.object_found:
            raise RefusedError(410, "the message was withdrawn")
        return found

    async def _push_messages(self, call: Call) -> Proto:
        request = call.request
        if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
            raise RefusedError(400, "not one reply with one tree")
        message, tree = message_from_proto(request.messages_list[0]), request.message_object_trees[0]
        metadata = message.metadata
        if metadata.src_node_id != call.caller.node:
            raise RefusedError(401, "the reply is another site's")
        waiting = self.state.request(metadata.reply_to_message_id)
        if waiting is None or not _awaited(waiting, message):
            self.state.note_late(call.caller.node, metadata.message_type)
            raise RefusedError(410, "no reply is waited for")
        count = sum(1 for _ in iterate_object_tree(tree))
        if count > self.state.most_reply // CHUNK + TREE_EXTRA:
            self.state.refuse_length(waiting)
            raise RefusedError(413, "the reply is too long")
        if tree.object_id != metadata.message_id:
            raise RefusedError(400, "the tree is not that of a reply")
        try:
            response = fleet_handlers.push_messages(request, self.state)
        except ValueError:
            raise RefusedError(400, "the tree is not that of a reply") from None
        if self.state.message_ins_id_to_message_res_id.get(metadata.reply_to_message_id) != tree.object_id:
            raise RefusedError(409, "the reply is not accepted")
        missing = list(response.objects_to_push)
        self.state.reply_begins(waiting, metadata.message_id, response.session_id, missing)
        return response

    async def _push_object(self, call: Call) -> Proto:
        request = call.request
        this = (request.session_id, request.object_id)
        while this in self._storing:  # sent again before the first had been stored
            await self._storing[this].wait()
        if self.state.was_taken(request.session_id, call.caller.node):
            return objects.PushObjectResponse(stored=True)
        waiting = self.state.session(request.session_id)
        if waiting is None or (waiting.node, waiting.run_id) != (call.caller.node, request.run_id):
            raise RefusedError(410, "no reply is waited for")
        if request.object_id not in waiting.missing:  # sent again, since our answer was lost
            return objects.PushObjectResponse(stored=True)
        size = len(request.object_content)
        if waiting.taken + size > self.state.most_reply:
            self.state.refuse_length(waiting)
            raise RefusedError(413, "the reply is too long")
        self._storing[this] = asyncio.Event()
        try:
            response = await asyncio.to_thread(fleet_handlers.push_object, request, self.state)
            if not response.stored and self.state.session(request.session_id) is not waiting:
                raise RefusedError(410, "no reply is waited for any more")
            if not response.stored:
                raise RefusedError(507, "the object could not be stored")
            self.state.reply_goes_on(waiting, request.object_id, size)
        finally:
            self._storing.pop(this).set()
        return response

    def _event(self, node: int) -> asyncio.Event:
        return self._events.setdefault(node, asyncio.Event())

    def _turn(self, node: int) -> int:
        """Send away whoever waits for this site, and give the number of the next."""
        self._turns[node] = self._turns.get(node, 0) + 1
        self._event(node).set()
        return self._turns[node]


def _awaited(waiting: Request, reply: Message) -> bool:
    """Whether the site and the run are right and no other reply is here."""
    metadata = reply.metadata
    right = (waiting.node, waiting.run_id) == (metadata.src_node_id, metadata.run_id)
    return right and not waiting.too_long and waiting.reply in ("", metadata.message_id)


async def _refuse(send: Send, status: int, why: str) -> None:
    logger.info("refused with %d: %s", status, why)
    await answer(send, status, json.dumps({"detail": why}).encode(), "application/json", close=True)
