"""The few things of HTTP that the port needs: read a body of some length at most, answer, answer nothing."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

BODY_SECONDS = 300.0
"""Most seconds that a request's body may take to come."""
PIECE = 64 * 2**10
"""Bytes that are handed to the connection at a time: it copies, and encrypts, what it has not sent yet."""


class BodyTooLongError(Exception):
    """A request's body is longer than allowed, or does not come."""


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes:
    """Read a request's body.

    Raises
    ------
    BodyTooLongError
        As soon as it is known to be longer than ``most`` bytes, or when it takes too long to come.
    """
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 15 or int(length) > most:
        raise BodyTooLongError
    parts: list[bytes] = []
    taken, more = 0, True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                event = await receive()
                if event["type"] != "http.request":
                    raise BodyTooLongError
                parts.append(event.get("body", b""))
                taken += len(parts[-1])
                if taken > most:
                    raise BodyTooLongError
                more = event.get("more_body", False)
    except TimeoutError:
        raise BodyTooLongError from None
    return b"".join(parts)


async def answer(send: Send, status: int, body: bytes, media_type: str, *, close: bool = False) -> None:
    """Send an answer."""
    headers = [(b"content-length", str(len(body)).encode())]
    if media_type:
        headers.append((b"content-type", media_type.encode()))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for start in range(0, max(len(body), 1), PIECE):
        more = start + PIECE < len(body)
        await send({"type": "http.response.body", "body": body[start : start + PIECE], "more_body": more})


async def nothing_here(send: Send) -> None:
    """Answer as if there were nothing."""
    await answer(send, 404, b"", "", close=True)
