"""The door of the port: what is there, and nothing else."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmfed_server.link.http import answer, nothing_here

logger = logging.getLogger(__name__)

FLEET = "/v1/fleet/"
PORTAL = "/mmfed/v1/"
MOST_PORTAL_BODY = 2**20


class Front:
    """The ASGI application that hears every request.

    Parameters
    ----------
    fleet
        Answers what is below ``/v1/fleet/``.
    portal
        Answers what is below ``/mmfed/v1/``; it never sees a body longer than 1 MiB.
    """

    def __init__(self, fleet: ASGIApp, portal: ASGIApp) -> None:
        self.fleet = fleet
        self.portal = portal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        started = False

        async def noted(event: Message) -> None:
            nonlocal started
            started = True
            await send(event)

        try:
            if path.startswith(FLEET):
                await self.fleet(scope, receive, noted)
            elif path.startswith(PORTAL):
                await self.portal(scope, _limited(receive), noted)
            else:
                await nothing_here(noted)
        except Exception:  # whatever it is, the caller learns nothing of it and the others are served
            logger.exception("a request failed")
            if not started:
                await answer(send, 500, b"", "", close=True)


def _limited(receive: Receive) -> Receive:
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        event = await receive()
        taken += len(event.get("body", b""))
        if taken > MOST_PORTAL_BODY:
            return {"type": "http.disconnect"}
        return event

    return limited
