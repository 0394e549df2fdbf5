"""A real portal over real TLS, on a free port of this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp

from mmfed_client.enrolment import join
from mmfed_client.home import SiteHome
from mmfed_common.names import utc_now
from mmfed_common.study import Study
from mmfed_server.database import open_database
from mmfed_server.federation import Federation, Offers, SiteRegistry
from mmfed_server.portal import make_portal
from mmfed_simulations.processes.programs import free_port

STUDY = {
    "study": {"name": "toy", "seed": 7},
    "contract": {
        "demographics": {"age": {"kind": "number", "unit": "years"}},
        "survival": {"bins": [365, 730, 1826.25]},
    },
    "training": {"stages": [{"level": "clinical", "rounds": 3}]},
}


@dataclass
class Clock:
    """The server's clock, which a test can set."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


@dataclass
class Coordinator:
    """A coordinator whose portal answers."""

    federation: Federation
    registry: SiteRegistry
    offers: Offers
    clock: Clock
    folder: Path
    wrap: Callable[[ASGIApp], ASGIApp] = field(default=lambda app: app)

    def kit(self, site: str, days: float = 14) -> Path:
        """Invite a site."""
        invitation = self.registry.invite(site, days=days)
        return self.federation.write_kit(self.federation.kit(invitation), self.folder / f"{site}.kit")

    def home(self, site: str) -> SiteHome:
        """Where a site lives."""
        return SiteHome(self.folder / f"home-{site}")

    def joined(self, site: str) -> SiteHome:
        """Invite a site and let it join."""
        join(self.kit(site), self.home(site))
        return self.home(site)


@contextmanager
def serving(app: ASGIApp, port: int, certificate: Path) -> Iterator[None]:
    """Serve an application over TLS."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=certificate,
        log_level="error",
        lifespan="off",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "the server has ended"
        assert time.monotonic() < deadline, "the server has not started"
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def study() -> Study:
    """A small study."""
    return Study.from_content(STUDY)


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    """A coordinator whose portal answers; `wrap` of it may be set to stand between the portal and a site."""
    port = free_port()
    federation = Federation.create(tmp_path / "federation", "lung", f"localhost:{port}", ["127.0.0.1"])
    clock = Clock()
    registry = SiteRegistry(open_database(federation.database_url), clock)
    held = Coordinator(federation, registry, Offers(federation), clock, tmp_path)
    portal = make_portal(federation, registry, held.offers)

    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        await held.wrap(portal)(scope, receive, send)

    with serving(app, port, federation.certificates.cert_path):
        yield held
