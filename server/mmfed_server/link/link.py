"""The link: one TLS port for everything that sites may reach, in a thread of this process."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from mmfed_common.errors import NetworkError
from mmfed_server.federation.certificates import Certificates
from mmfed_server.link.fleet import Fleet
from mmfed_server.link.front import Front
from mmfed_server.link.grid import LinkGrid
from mmfed_server.link.silence import Impatient
from mmfed_server.link.spool import Spool
from mmfed_server.link.state import LEASE, MOST_REPLY, SiteState, Traffic

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of TLS 1.3 are all good."""
STOP_SECONDS = 5
CONNECTIONS = 1000


class Link:
    """One TLS port; use as a context manager. Methods may be called from any thread.

    Parameters
    ----------
    listen
        Host and port; port 0 takes a free one.
    spool
        Folder for messages that wait; see :class:`~mmfed_server.link.spool.Spool`.
    portal
        Answers what is below ``/mmfed/v1/``.
    lease
        Seconds of silence after which a site counts as gone.
    most_reply
        Most bytes of one reply.

    Raises
    ------
    NetworkError
        ``MMF-484`` when the address cannot be taken, ``MMF-485`` when certificate or key cannot be used,
        ``MMF-486`` when the folder cannot.
    """

    def __init__(
        self,
        listen: tuple[str, int],
        certificates: Certificates,
        spool: Path,
        portal: ASGIApp,
        *,
        lease: float = LEASE,
        most_reply: int = MOST_REPLY,
    ) -> None:
        logging.getLogger("flwr").setLevel(logging.CRITICAL)
        self.certificates = certificates
        self.state = SiteState(Spool(spool), lease, most_reply)
        self._fleet = Fleet(self.state)
        self._door = _Door(ssl.PROTOCOL_TLS_SERVER)
        self._read, self._door.shown = _tls_context(certificates)
        self._socket = _bound(listen)
        config = uvicorn.Config(
            Front(self._fleet, portal),
            http=Impatient,
            ssl_context_factory=lambda _config, _default: self._door,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            ws="none",
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="mmfed-link", daemon=True)

    def _serve(self) -> None:
        async def run() -> None:
            self._fleet.listen(asyncio.get_running_loop())
            await self._server.serve(sockets=[self._socket])

        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(run())

    def __enter__(self) -> Link:
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
            if not self._thread.is_alive():
                raise NetworkError("MMF-484", "the port did not open; the log says why", self.address)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._fleet.close()
        self._thread.join(2 * STOP_SECONDS)
        self._socket.close()
        self.state.spool.clear()

    @property
    def address(self) -> str:
        """``host:port`` that it listens on."""
        host = str(self._socket.getsockname()[0])
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def port(self) -> int:
        """The port, also when 0 was asked for."""
        return int(self._socket.getsockname()[1])

    def grid(self) -> LinkGrid:
        """Begin a run, as Flower counts them, and give the Grid to speak with its sites."""
        return LinkGrid(self.state)

    def set_sites(self, sites: Mapping[str, bytes]) -> None:
        """Say who may speak: site → public key PEM; at once, for the next request of each.

        A site with another key than before is another node; messages to the former one fail.
        """
        self.state.set_sites(sites)

    def online(self) -> dict[str, int]:
        """Site → node of those that were heard of lately and have not taken their leave."""
        return self.state.online()

    def traffic(self) -> dict[str, Traffic]:
        """Site → bytes of bodies that came from it and went to it, since the start."""
        return {self.state.site_of(node): traffic for node, traffic in list(self.state.traffic.items())}

    def reload_certificates(self) -> bool:
        """Present what now is in the files, to connections from now on; tells whether it is something else.

        Raises
        ------
        NetworkError
            ``MMF-485`` when certificate or key cannot be used; the former ones stay.
        """
        if _digest(self.certificates) == self._read:
            return False
        self._read, self._door.shown = _tls_context(self.certificates)
        return True


class _Door(ssl.SSLContext):
    """Begins each connection with the context that is shown now.

    A new certificate is a new context, exchanged in one step: a context in use that loads another pair has,
    for a moment, a certificate without its key, and turns away who comes just then.
    """

    shown: ssl.SSLContext

    def wrap_bio(self, *args: Any, **words: Any) -> ssl.SSLObject:
        return self.shown.wrap_bio(*args, **words)


def _tls_context(certificates: Certificates) -> tuple[bytes, ssl.SSLContext]:
    """A digest of the files, and a context with it; a change in between is found at a later look."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    digest = _digest(certificates)
    try:
        context.load_cert_chain(certificates.cert_path, certificates.key_path)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
        raise NetworkError("MMF-485", str(reason), str(certificates.cert_path)) from None
    return digest, context


def _digest(certificates: Certificates) -> bytes:
    try:
        content = certificates.cert_path.read_bytes() + certificates.key_path.read_bytes()
        return hashlib.sha256(content).digest()
    except OSError as error:
        raise NetworkError("MMF-485", str(error.strerror), str(error.filename)) from None


def _bound(listen: tuple[str, int]) -> socket.socket:
    host, port = listen
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        raise NetworkError("MMF-484", str(getattr(error, "strerror", error)), f"{host}:{port}") from None
    return found
