"""Flower's Grid over the link."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run


class LinkGrid(Grid):
    """Sends messages to the sites and gives their replies."""

    def site_of(self, node: int) -> str:
        """The site's name."""
        raise NotImplementedError

    def stream(self, messages: Iterable[Message], timeout: float) -> Iterator[Message]:
        """Send messages and yield the replies as they arrive, one at a time in memory."""
        raise NotImplementedError

    def late(self) -> list[tuple[str, str]]:
        """(site, message type) of the replies that came too late, since the last call."""
        raise NotImplementedError

    def set_run(self, run: Run) -> None:
        """There is one run only; nothing to set."""

    @property
    def run(self) -> Run:
        """The run."""
        raise NotImplementedError

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
        """Nodes of the sites that are online."""
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages without waiting."""
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Take the replies that are there."""
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and wait for all replies."""
        raise NotImplementedError
