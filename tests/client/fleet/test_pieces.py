"""Long requests in pieces: the same bytes under the same head."""

from __future__ import annotations

import httpx
import pytest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.protobuf.client import ProtobufRequestContext

from mmfed_client.fleet.pieces import PIECE, Pieces


def through(content: bytes) -> httpx.Request:
    """The request as it goes on."""
    request = httpx.Request("POST", "https://server/", content=content)
    seen: list[httpx.Request] = []

    def send(context: ProtobufRequestContext) -> httpx.Response:
        seen.append(context.request)
        return httpx.Response(200)

    Pieces().intercept(ProtobufRequestContext("Push", PushObjectRequest(), request), send)
    return seen[0]


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 3 * PIECE, 31 * PIECE - 5])
def test_pieces_are_small_and_together_the_whole(size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    request = through(content)
    assert isinstance(request.stream, httpx.SyncByteStream)
    for _ in range(2):
        pieces = list(request.stream)
        assert b"".join(pieces) == content
        assert all(len(piece) <= PIECE for piece in pieces)
    assert request.headers["content-length"] == str(size)
    assert "transfer-encoding" not in request.headers
