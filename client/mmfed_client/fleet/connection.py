"""A site's connection to the server."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Message

from mmfed_common.signing import SiteKey


@dataclass(frozen=True)
class Incoming:
    """A message that came, whole.

    Attributes
    ----------
    run_id
        The server's number for its run, which the reply must name; it changes when the server restarts.
    """

    message: Message
    run_id: int


class FleetConnection:
    """An open connection; made by :func:`connect`."""

    @property
    def node_id(self) -> int:
        """The site's number in Flower; it follows from its public key."""
        raise NotImplementedError

    def receive(self) -> Incoming | None:
        """Wait a few seconds for a message."""
        raise NotImplementedError

    def send(
        self, incoming: Incoming, reply: Message, objects: Sequence[tuple[str, bytes]] | None = None
    ) -> None:
        """Send the reply; returns when the server has all of it."""
        raise NotImplementedError

    def objects_of(self, reply: Message) -> list[tuple[str, bytes]]:
        """(object id, bytes) of what will be pushed for a reply."""
        raise NotImplementedError


def connect(
    address: str, ca: Path, key: SiteKey, *, patience: float = 5.0
) -> AbstractContextManager[FleetConnection]:
    """Connect, and stay connected while the context lasts."""
    raise NotImplementedError
