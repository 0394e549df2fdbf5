"""Things between a site and its server that fail: a line that can be cut, a proxy that answers by itself."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from tests.server.link.small_link import SmallLink, wait_until

from mmfed_server.link.http import answer
from mmfed_simulations.processes.programs import free_port


class Line:
    """A TCP forwarder on a port of its own; :meth:`cut` ends all connections and lets none begin."""

    def __init__(self, target: str, host: str = "127.0.0.1") -> None:
        self.listen = host
        self.host, port = target.rsplit(":", 1)
        self.target = int(port)
        self.port = free_port()
        self.up = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait()

    @property
    def address(self) -> str:
        """Where the line begins."""
        return f"localhost:{self.port}"

    def cut(self) -> None:
        """Break the line."""
        self.up = False
        self._loop.call_soon_threadsafe(self._drop)

    def mend(self) -> None:
        """Let connections through again."""
        self.up = True

    def _drop(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = asyncio.start_server(self._connected, self.listen, self.port)
        self._loop.run_until_complete(server)
        self._ready.set()
        self._loop.run_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.up:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(self.host, self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        try:
            halves = self._pump(reader, far_writer), self._pump(far_reader, writer)
            await asyncio.gather(*halves, return_exceptions=True)
        finally:
            for end in (writer, far_writer):
                self._writers.discard(end)
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self.up:
                return
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


class Proxy:
    """A reverse proxy with the server's certificate.

    ``status_of(path)`` gives the status that it answers by itself, or 0 to pass a request on; ``lose(path)``
    the status that it answers in place of the server's answer, or 0 to pass that on.
    """

    def __init__(self, small: SmallLink, port: int) -> None:
        self.port = port
        self.status_of: Callable[[str], int] = lambda path: 0
        self.lose: Callable[[str], int] = lambda path: 0
        self.body = b"<html>proxy</html>"
        context = ssl.create_default_context(cafile=str(small.ca))
        self._ahead = httpx.AsyncClient(
            base_url=f"https://{small.address}", verify=context, timeout=30, trust_env=False
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        body = b""
        event: Message = {}
        while event.get("more_body", True):
            event = await receive()
            if event["type"] == "http.disconnect":  # comes again and again
                return
            body += event.get("body", b"")
        if status := self.status_of(scope["path"]):
            await answer(send, status, self.body, "text/html")
            return
        headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
        try:
            found = await self._ahead.post(scope["path"], content=body, headers=headers)
        except httpx.TransportError:
            await answer(send, 502, self.body, "text/html")
            return
        if status := self.lose(scope["path"]):
            await answer(send, status, self.body, "text/html")
            return
        await answer(send, found.status_code, found.content, found.headers.get("content-type", ""))


@contextmanager
def proxy(small: SmallLink) -> Iterator[tuple[str, Proxy]]:
    """Start a proxy; gives its address."""
    port = free_port()
    app = Proxy(small, port)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        ssl_certfile=str(small.certificates.cert_path),
        ssl_keyfile=str(small.certificates.key_path),
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"localhost:{port}", app
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), "the proxy does not end"
