"""Figures for Prometheus, on loopback only and only when asked for; never about patients."""

from __future__ import annotations

from types import TracebackType

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from mmfed_client.status import State, Status
from mmfed_common.errors import MachineError

LOOPBACK = "127.0.0.1"


class Metrics:
    """The figures of one site, kept up to date from its status.

    Parameters
    ----------
    site
        Becomes the label ``site`` of every figure.
    """

    def __init__(self, site: str) -> None:
        self.registry = CollectorRegistry()
        self._state = Gauge(
            "mmfed_client_state",
            "1 for what the site is doing now, 0 for everything else.",
            ("site", "state"),
            registry=self.registry,
        )
        self._trouble = Counter(
            "mmfed_client_errors_total",
            "Errors by their code.",
            ("site", "code"),
            registry=self.registry,
        )
        self._round = self._gauge(site, "mmfed_client_round", "Round last worked on.")
        self._rounds = self._gauge(site, "mmfed_client_rounds", "Rounds of the study.")
        self._messages = self._gauge(
            site, "mmfed_client_sent_messages", "Messages that left since the program began."
        )
        self._bytes = self._gauge(site, "mmfed_client_sent_bytes", "Bytes that left since the program began.")
        self._restarts = self._gauge(site, "mmfed_client_restarts", "Starts of the node after its first.")
        self._site = site
        self._last = ("", "")

    def _gauge(self, site: str, name: str, text: str) -> Gauge:
        return Gauge(name, text, ("site",), registry=self.registry).labels(site)

    def show(self, status: Status) -> None:
        """Take over a status."""
        for state in State:
            self._state.labels(self._site, state.name).set(state is status.state)
        told_before = status.state in (State.opening, State.connecting)  # of the attempt before this one
        if status.code and not told_before and (status.code, status.since) != self._last:
            self._last = (status.code, status.since)
            self._trouble.labels(self._site, status.code).inc()
        self._round.set(status.round)
        self._rounds.set(status.rounds)
        self._messages.set(status.sent.messages)
        self._bytes.set(status.sent.bytes)
        self._restarts.set(status.restarts)


class MetricsServer:
    """Serves the figures at ``http://127.0.0.1:PORT/metrics`` while its context lasts.

    Raises
    ------
    MachineError
        ``MMF-117`` when the port cannot be opened.
    """

    def __init__(self, metrics: Metrics, port: int) -> None:
        try:
            self._server, self._thread = start_http_server(port, LOOPBACK, metrics.registry)
        except OSError as error:
            raise MachineError("MMF-117", f"port {port}: {error.strerror}") from None

    @property
    def port(self) -> int:
        """The port that was opened; of interest when 0 was asked for."""
        return int(self._server.server_port)

    def __enter__(self) -> MetricsServer:
        """Serve."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
