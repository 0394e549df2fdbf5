"""A long request is handed to the connection in pieces.

The HTTP client gives a body to TLS as a whole, TLS takes one record of it at a time (16 KiB), and the client
copies all that is left after each: for a chunk of a model thirty times what is sent.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext

PIECE = 32 * 2**10
"""Two records of TLS."""


class InPieces(httpx.SyncByteStream):
    """The bytes of a request, some at a time; may be read again."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        """Give the pieces."""
        for start in range(0, len(self._content), PIECE):
            yield self._content[start : start + PIECE]


class Pieces:
    """Lets long requests be sent in pieces; one of the fleet client's interceptors."""

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Replace a long body by its pieces; the head, with its length, stays what it is."""
        content = context.request.content
        if len(content) > PIECE:
            context.request.stream = InPieces(content)
        return call_next(context)
