"""Figures for Prometheus, on a port of this machine only."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

LOOPBACK = "127.0.0.1"
STATES = ("idle", "waiting", "running", "finished", "failed", "stopped")
ROUND_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)


class Round(Protocol):
    """What is counted of a round; :class:`mmfed_server.plan.RoundReport` has it."""

    @property
    def round(self) -> int:
        """Its number."""

    @property
    def seconds(self) -> float:
        """How long it took."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Name → mean over patients."""

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites whose updates were taken."""

    @property
    def refused(self) -> Mapping[str, str]:
        """Site → reason, which begins with its code."""


@dataclass(frozen=True)
class _Served:
    server: WSGIServer
    thread: threading.Thread


class Metrics:
    """The coordinator's figures; each object has its own registry, so that nothing is global."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._state = self._gauge("mmfed_run_state", "1 for the state that the run is in.", ["state"])
        self._round = self._gauge("mmfed_round", "Last round that was committed.")
        self._rounds = self._gauge("mmfed_rounds", "Rounds of the study.")
        self._metric = self._gauge("mmfed_metric", "Mean over patients after the last round.", ["metric"])
        self._online = self._gauge("mmfed_site_online", "1 while an enrolled site is connected.", ["site"])
        self._days = self._gauge("mmfed_certificate_days_left", "Until the server's certificate ends.")
        self._seconds = Histogram(
            "mmfed_round_seconds", "Seconds of a round.", buckets=ROUND_SECONDS, registry=self.registry
        )
        self._updates = Counter("mmfed_updates", "Updates that were taken.", ["site"], registry=self.registry)
        self._refusals = Counter(
            "mmfed_refusals", "Answers that were refused.", ["site", "code"], registry=self.registry
        )
        self._served: _Served | None = None
        self.set_state("idle")

    def set_state(self, state: str) -> None:
        """Say which of :data:`STATES` the run is in."""
        for name in STATES:
            self._state.labels(name).set(float(name == state))

    def set_rounds(self, rounds: int, done: int) -> None:
        """Say how many rounds the study has, and how many are committed."""
        self._rounds.set(rounds)
        self._round.set(done)

    def set_sites(self, enrolled: Iterable[str], online: Iterable[str]) -> None:
        """Say who is enrolled and who of them is connected."""
        there = set(online)
        self._online.clear()
        for site in enrolled:
            self._online.labels(site).set(float(site in there))

    def set_certificate_days(self, days: float) -> None:
        """Say how long the server's certificate is still good."""
        self._days.set(days)

    def note_round(self, report: Round) -> None:
        """Count a round that ended."""
        self._round.set(report.round)
        self._seconds.observe(report.seconds)
        for name, value in report.metrics.items():
            self._metric.labels(name).set(value)
        for site in report.sites:
            self._updates.labels(site).inc()

    def note_refusal(self, site: str, code: str) -> None:
        """Count an answer that was refused."""
        self._refusals.labels(site, code).inc()

    def serve(self, port: int) -> int:
        """Answer Prometheus on a port of the loopback interface; gives the port, also for port 0."""
        server, thread = start_http_server(port, addr=LOOPBACK, registry=self.registry)
        self._served = _Served(server, thread)
        return int(server.server_port)

    def close(self) -> None:
        """Stop answering."""
        if self._served is not None:
            self._served.server.shutdown()
            self._served.server.server_close()
            self._served.thread.join()
            self._served = None

    def _gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        return Gauge(name, text, list(labels), registry=self.registry)
