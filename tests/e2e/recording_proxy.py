"""Stands between a site and the server and keeps what the site sends, before it is encrypted.

It ends the TLS of the site with a certificate that the site trusts.

Only who holds the federation's certificate authority can do this; a test does.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import h11

BLOCK = 1 << 18


@dataclass(frozen=True)
class Sent:
    """One request as it left the site."""

    method: str
    path: str
    headers: bytes
    body: bytes


class RecordingProxy:
    """Listens on loopback with a certificate, forwards to the server, records the requests.

    Parameters
    ----------
    certificate, key
        What to present to sites: for 127.0.0.1, signed by the federation's authority.
    authority
        With which the real server is checked.
    port
        Of the real server.
    """

    def __init__(self, certificate: Path, key: Path, authority: Path, port: int) -> None:
        self._inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._inside.load_cert_chain(certificate, key)
        self._outside = ssl.create_default_context(cafile=str(authority))
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._streams: list[bytearray] = []
        self._to_lose = 0
        self._serving = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._serving.wait()

    def __enter__(self) -> RecordingProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def lose_answers(self, count: int) -> None:
        """Let the server hear as many of the next requests, and close the connection instead of answering."""
        self._to_lose = count

    def streams(self) -> list[bytes]:
        """Everything that was sent, one item a connection."""
        with self._lock:
            return [bytes(stream) for stream in self._streams]

    def requests(self) -> list[Sent]:
        """The same as requests."""
        return [request for stream in self.streams() for request in _requests(stream)]

    async def _serve(self) -> None:
        """One thread for all connections: OpenSSL allows no two to read and write one connection at once."""
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self._carry, sock=self._listener, ssl=self._inside):
            self._serving.set()
            await self._end.wait()

    async def _carry(self, from_site: asyncio.StreamReader, to_site: asyncio.StreamWriter) -> None:
        """Carry one connection; the end of either direction ends both."""
        with suppress(OSError, asyncio.CancelledError):
            from_server, to_server = await asyncio.open_connection(
                "127.0.0.1", self._target, ssl=self._outside, server_hostname="127.0.0.1"
            )
            stream = bytearray()
            with self._lock:
                self._streams.append(stream)
            pumps = {
                asyncio.create_task(self._pump(from_site, to_server, stream)),
                asyncio.create_task(self._pump(from_server, to_site, None)),
            }
            _, other = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in other:
                pump.cancel()
            to_server.close()
        to_site.close()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, record: bytearray | None
    ) -> None:
        with suppress(OSError):
            while block := await source.read(BLOCK):
                if record is not None:
                    with self._lock:
                        record.extend(block)
                elif self._to_lose:
                    self._to_lose -= 1
                    return
                sink.write(block)
                await sink.drain()


def _requests(stream: bytes) -> list[Sent]:
    """Cut the bytes of a connection into requests."""
    found = []
    rest = stream
    while rest:
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(rest)
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body.extend(event.data)
            else:
                break
        if head is None or not isinstance(event, h11.EndOfMessage):
            break
        headers = b"\r\n".join(name + b": " + value for name, value in head.headers)
        found.append(Sent(head.method.decode(), head.target.decode(), headers, bytes(body)))
        rest = parser.trailing_data[0]
    return found
