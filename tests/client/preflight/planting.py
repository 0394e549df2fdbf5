"""What a planted fault is, and what planting needs: servers on loopback, certificates, files."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.client.preflight.small_site import Coordinator, Site

from mmfed_client.preflight import State
from mmfed_server.federation.certificates import Authority, certificate_pem, key_pem

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Bench:
    """What planting may use; everything is put back after the test."""

    patch: pytest.MonkeyPatch
    stack: ExitStack
    folder: Path

    def serve(
        self,
        answer: bytes,
        context: ssl.SSLContext | None = None,
        silent: bool = False,
        until: bytes = b"\r\n\r\n",
    ) -> int:
        """Answer everything that holds `until` in the same way; gives the port."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.stack.callback(listener.close)
        thread = threading.Thread(
            target=_accept, args=(listener, answer, context, silent, until), daemon=True
        )
        thread.start()
        return int(listener.getsockname()[1])

    def tls(self, authority: Authority, names: list[str], now: datetime) -> ssl.SSLContext:
        """Make a server's context with a certificate of this authority."""
        certificate, key = authority.issue(names, now)
        file = self.folder / "presented.pem"
        file.write_bytes(certificate_pem(certificate) + key_pem(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def _accept(
    listener: socket.socket, answer: bytes, context: ssl.SSLContext | None, silent: bool, until: bytes
) -> None:
    held = []
    while True:
        try:
            opened, _ = listener.accept()
        except OSError:
            return
        if silent:
            held.append(opened)
            continue
        threading.Thread(target=_answer, args=(opened, answer, context, until), daemon=True).start()


def _answer(opened: socket.socket, answer: bytes, context: ssl.SSLContext | None, until: bytes) -> None:
    with suppress(OSError):
        opened.settimeout(10)
        if context is not None:
            opened = context.wrap_socket(opened, server_side=True)
        with opened:
            received = b""
            while (not received or until not in received) and (piece := opened.recv(4096)):
                received += piece
            if received:
                opened.sendall(answer)


Plant = Callable[[Site, Bench], None]


@dataclass(frozen=True)
class Planted:
    """A fault: how it is planted, and what the check must say about it.

    `also` are codes that must appear beside it because the fault has two faces; nothing else may.
    """

    plant: Plant
    item: str
    code: str
    repair: str
    what: str = ""
    state: State = State.FAULT
    also: frozenset[str] = field(default_factory=frozenset)


def authority_of(coordinator: Coordinator) -> Authority:
    """The federation's own authority."""
    folder = coordinator.federation.path / "ca"
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Authority(coordinator.federation.ca, key)
