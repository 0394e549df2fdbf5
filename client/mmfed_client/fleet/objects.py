"""What goes over the wire for one message, byte for byte: what a receipt lists."""

from __future__ import annotations

from flwr.app import Message

from mmfed_common.wire import wire_objects


def objects_of(message: Message) -> list[tuple[str, bytes]]:
    """Give (object id, bytes) of everything that is pushed for a message, in the order of pushing.

    The last one is the message itself. Depends on the message's content and metadata only, so that the gate's
    receipt and the connection name the same bytes; the id of an object is the SHA-256 of its bytes.
    """
    return list(wire_objects(message))
