"""A reverse proxy between a site and the server that does, once, what proxies do on bad days.

It ends the TLS of the site with the server's own certificate, so the site cannot tell it from the server.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest

HOP = {"host", "connection", "content-length", "transfer-encoding", "keep-alive"}
SECONDS = 60.0

Deed = Callable[[], None]


@dataclass
class Meddling:
    """One thing that is done to one request, then no more.

    Attributes
    ----------
    path
        How the request's path ends.
    status
        Answer with this and let nothing through; 0: let it through, and lose the server's answer.
    deed
        Done when the server has answered, before the site could know.
    last_object
        Only the request that completes an upload: the object that the message itself is.
    done
        Set when it has happened.
    """

    path: str
    status: int = 0
    deed: Deed | None = None
    last_object: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class MeddlingProxy:
    """Forwards requests to the server; does what it is told to one of them.

    Parameters
    ----------
    certificate, key
        What to present to the site.
    authority
        With which the real server is checked.
    port
        Of the real server.
    """

    def __init__(self, certificate: Path, key: Path, authority: Path, port: int) -> None:
        inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        inside.load_cert_chain(certificate, key)
        self._outside = ssl.create_default_context(cafile=str(authority))
        self._target = port
        self._lock = threading.Lock()
        self._planned: list[Meddling] = []
        self._announced: set[str] = set()
        self.asked: list[str] = []
        """Paths of all requests, in order."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.socket = inside.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> MeddlingProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def plan(self, meddling: Meddling) -> Meddling:
        """Do this to the next request that it fits."""
        with self._lock:
            self._planned.append(meddling)
        return meddling

    def _chosen(self, path: str, body: bytes) -> Meddling | None:
        with self._lock:
            self.asked.append(path)
            whole = False
            if path.endswith("/push-messages"):
                heads = PushMessagesRequest.FromString(body).messages_list
                self._announced |= {head.metadata.message_id for head in heads}
            elif path.endswith("/push-object"):
                whole = PushObjectRequest.FromString(body).object_id in self._announced
            for planned in self._planned:
                if path.endswith(planned.path) and (whole or not planned.last_object):
                    self._planned.remove(planned)
                    return planned
        return None

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes, str]:
        link = http.client.HTTPSConnection("127.0.0.1", self._target, timeout=SECONDS, context=self._outside)
        try:
            link.request(method, path, body, headers)
            answer = link.getresponse()
            return answer.status, answer.read(), answer.getheader("content-type", "")
        finally:
            link.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = SECONDS

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                meddling = proxy._chosen(self.path, body)
                if meddling is not None and meddling.status:
                    self._answer(meddling.status, b"a bad day", "text/plain")
                    meddling.done.set()
                    return
                headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
                try:
                    status, content, kind = proxy._ask(self.command, self.path, headers, body)
                except (OSError, http.client.HTTPException):
                    status, content, kind = 502, b"", ""
                if meddling is not None:
                    if meddling.deed is not None:
                        meddling.deed()
                    meddling.done.set()
                    self.close_connection = True
                    return
                self._answer(status, content, kind)

            do_GET = do_POST  # noqa: N815 (the name that the library calls)

            def _answer(self, status: int, content: bytes, kind: str) -> None:
                with suppress(OSError):
                    self.send_response(status)
                    self.send_header("content-length", str(len(content)))
                    if kind:
                        self.send_header("content-type", kind)
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler
