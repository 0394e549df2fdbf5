"""Flower's Grid over the link, in the server's own process: no polling and no HTTP between the two."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Iterator

from flwr.app import Error, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from mmfed_common.error_codes import CODES
from mmfed_common.errors import NetworkError
from mmfed_common.wire import Packer, UnreadableMessageError, read_message
from mmfed_server.link.state import SiteState

logger = logging.getLogger(__name__)

CLOCK_ROOM = 4000.0
"""Seconds by which Flower's own time limit is longer than ours, which is measured on a clock that nobody can
set: neither a site's clock nor the server's may end a wait early, or make a reply look too old."""
LONGEST = 43200.0
"""Seconds to wait when the caller names no limit."""
GLANCE = 1.0
"""Seconds between two looks at who is still there, when nothing happens."""
GONE = "NodeUnavailable"
UNREADABLE = "MMF-487"
TOO_LONG = "MMF-466"
_push_numbers = itertools.count(1)


class LinkGrid(Grid):
    """Sends messages to sites and gives their replies; made by :meth:`~mmfed_server.link.link.Link.grid`.

    One thread uses it. Messages that it sends get their ids, run and time limit here.
    """

    def __init__(self, state: SiteState) -> None:
        self.state = state
        self.run_id = state.begin_run()
        self._sent: dict[str, Message] = {}
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, self.run_id, SUPERLINK_NODE_ID

    def site_of(self, node: int) -> str:
        """The site's name; empty when there is no such node."""
        return self.state.site_of(node)

    def bound_replies(self, most: int) -> None:
        """Refuse replies of more bytes from now on, before more than that has been kept of one."""
        self.state.most_reply = most

    def stream(self, messages: Iterable[Message], timeout: float) -> Iterator[Message]:
        """Send messages now, and yield each reply when all of it is here.

        A reply is read from disk when it is asked for, so that one is in memory at a time. A site that is
        not there, leaves, or sends what cannot be read or is too long gives an error reply whose source is
        its own node.
        A site that has not answered in time gives none; its reply is refused if it comes later.

        Parameters
        ----------
        timeout
            Seconds from now until the last reply is taken. Time that the consumer spends between two
            replies counts, but a reply that was here in time is not lost by it.

        Raises
        ------
        NetworkError
            ``MMF-486``, here or from the iterator, when the spool cannot be written; nobody waits for
            anything then, and all may be sent again.
        """
        deadline = time.monotonic() + timeout
        self.state.spool.trouble = None
        return self._replies(self._push(messages, timeout), deadline)

    def _replies(self, pending: list[str], deadline: float) -> Iterator[Message]:
        try:
            while pending:
                name = self._next(pending, deadline)
                if name is None:
                    return
                reply = self._take(name)
                pending.remove(name)
                yield reply
                del reply
        finally:
            for name in pending:
                self._sent.pop(name, None)
                self.state.forget(name)

    def late(self) -> list[tuple[str, str]]:
        """(site, message type) of the replies that came when nobody waited, since the last call."""
        return list(self.state.late())

    def _push(self, messages: Iterable[Message], timeout: float) -> list[str]:
        """Post messages; what several share, a whole content or its arrays, is written once."""
        holder, packer = f"push-{next(_push_numbers)}", Packer()
        written: dict[tuple[tuple[str, int], ...], tuple[RecordDict, list[str]]] = {}
        names = []
        try:
            for message in messages:
                metadata = message.metadata.__dict__
                metadata["_run_id"], metadata["_ttl"] = self.run_id, timeout + CLOCK_ROOM
                same = tuple((name, id(record)) for name, record in message.content.items())
                if same not in written:
                    ids = []
                    for name, content in packer.objects(message.content):
                        if content:
                            self.state.spool.hold(holder, name, content)
                        ids.append(name)
                    written[same] = message.content, ids
                posted = self.state.post(message, written[same][1])
                name = message.metadata.message_id
                stub = Message(RecordDict(), message.metadata.dst_node_id, message.metadata.message_type)
                stub.metadata.__dict__.update(metadata)
                self._sent[name] = stub
                names.append(name)
                if not posted:
                    logger.info("%s was never here", self.site_of(message.metadata.dst_node_id))
        except NetworkError:
            for name in names:
                self._sent.pop(name, None)
                self.state.forget(name)
            raise
        finally:
            self.state.spool.delete(holder)
        return names

    def _next(self, pending: list[str], deadline: float) -> str | None:
        """Wait for something to take; None when the time is over.

        Raises
        ------
        NetworkError
            ``MMF-486`` when what a site sends cannot be kept: it is of no use to wait for more then.
        """
        with self.state.changed:
            while True:
                for name in pending:
                    request = self.state.request(name)
                    if request is not None and (request.answered or request.too_long):
                        return name
                for name in pending:
                    request = self.state.request(name)
                    if request is None or not self.state.is_online(request.node):
                        return name
                if self.state.spool.trouble is not None:
                    raise self.state.spool.trouble
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self.state.changed.wait(min(left, GLANCE))

    def _take(self, name: str) -> Message:
        """Read the reply, or say why there is none; nothing of it is left behind."""
        sent = self._sent.pop(name)
        request = self.state.request(name)
        try:
            if request is not None and request.too_long:
                logger.warning("%s %s", TOO_LONG, self.site_of(sent.metadata.dst_node_id))
                return _error(sent, TOO_LONG)
            if request is None or not request.answered:
                return Message(Error(ErrorCode.NODE_UNAVAILABLE, GONE), reply_to=sent)
            found = read_message(request.reply, self._content, self.state.most_reply)
            if not _answers(found, sent):
                raise UnreadableMessageError("its own words and its announcement differ")
            return found
        except UnreadableMessageError as error:
            logger.warning("%s %s: %s", UNREADABLE, self.site_of(sent.metadata.dst_node_id), error)
            return _error(sent, UNREADABLE)
        finally:
            self.state.forget(name)

    def _content(self, name: str) -> bytes:
        content = self.state.spool.get(name)
        if not content:
            raise UnreadableMessageError("an object is missing")
        return content

    def set_run(self, run: Run) -> None:
        """There is one run only; nothing to set."""

    @property
    def run(self) -> Run:
        """The run as Flower describes it."""
        return self.state.get_run_info(run_ids=[self.run_id])[0]

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Nodes of the sites that are there now."""
        return list(self.state.online().values())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages without waiting."""
        return self._push(messages, LONGEST)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Take what there is to take, of these messages."""
        pending = [name for name in message_ids if name in self._sent]
        replies = []
        while pending and (name := self._next(pending, time.monotonic())) is not None:
            pending.remove(name)
            replies.append(self._take(name))
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and wait for all replies, all of which are then in memory."""
        return list(self.stream(messages, LONGEST if timeout is None else timeout))


def _error(sent: Message, code: str) -> Message:
    reason = f"{code} {CODES[code].meaning}"
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=sent)


def _answers(reply: Message, sent: Message) -> bool:
    """Whether a reply's own metadata say that it answers this message."""
    ours, theirs = sent.metadata, reply.metadata
    return (theirs.reply_to_message_id, theirs.src_node_id, theirs.run_id, theirs.message_type) == (
        ours.message_id,
        ours.dst_node_id,
        ours.run_id,
        ours.message_type,
    )
