"""An answer goes to the connection piece by piece, so that little of it is copied while it waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mmfed_server.link.http import PIECE, answer


@pytest.mark.parametrize("length", [0, 1, PIECE, PIECE + 1, 3 * PIECE])
def test_the_pieces_of_an_answer_are_the_answer(length: int) -> None:
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    body = bytes(range(256)) * (length // 256) + bytes(length % 256)
    asyncio.run(answer(send, 200, body, "text/plain"))
    head, *pieces = sent
    assert dict(head["headers"])[b"content-length"] == str(length).encode()
    assert b"".join(piece["body"] for piece in pieces) == body
    assert all(len(piece["body"]) <= PIECE for piece in pieces)
    assert [piece["more_body"] for piece in pieces] == [True] * (len(pieces) - 1) + [False]
