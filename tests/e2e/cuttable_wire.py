"""The wire between a site and the server, which can be cut: nothing passes, and nobody is told."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType

BLOCK = 1 << 16


class CuttableWire:
    """Forwards TCP from a port of its own to the server's.

    While it is cut, bytes of open connections go nowhere and new connections are answered by silence, as when
    a cable is out; nothing is closed. A connection of before the cut is dead after it, as where a firewall
    has forgotten it.

    Parameters
    ----------
    port
        Of the server, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._whole = threading.Event()
        self._whole.set()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> CuttableWire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.mend()

    def cut(self) -> None:
        """From now on nothing passes."""
        self._whole.clear()

    def mend(self) -> None:
        """Let new connections pass; what was open is dead."""
        with self._lock:
            stale, self._open = self._open, []
        for end in stale:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._whole.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.append(near)
            if self._whole.is_set():
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with suppress(OSError):
            far = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._open.append(far)
            threading.Thread(target=self._pump, args=(far, near), daemon=True).start()
            self._pump(near, far)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while block := source.recv(BLOCK):
                if not self._whole.is_set():
                    return  # lost; the ends stay open and hear nothing
                sink.sendall(block)
        if self._whole.is_set():
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
