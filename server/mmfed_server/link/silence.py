"""Connections that say nothing are closed: strangers could take all places of the port for nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

SILENT_SECONDS = 15.0
"""From the end of the TLS handshake to the end of the first request's head."""


class Impatient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's protocol, which by itself waits for a first request without end.

    Later requests need no such limit: who proves nothing is answered once and the connection is closed.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to count."""
        super().connection_made(transport)
        self._silent = self.loop.call_later(SILENT_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count no more."""
        self._silent.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        cycle: Any = self.cycle
        if cycle is None:
            self.transport.abort()
