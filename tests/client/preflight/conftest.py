"""One coordinator for all tests here, and a clean site for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.client.enrolment.conftest import serving
from tests.client.preflight.planting import Bench
from tests.client.preflight.small_site import Coordinator, Site

from mmfed_server.database import open_database
from mmfed_server.federation import Federation, Offers, SiteRegistry
from mmfed_server.portal import make_portal
from mmfed_simulations.processes.programs import free_port

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(scope="session")
def _coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    folder = tmp_path_factory.mktemp("coordinator")
    port = free_port()
    federation = Federation.create(folder / "federation", "lung", f"localhost:{port}", ["127.0.0.1"])
    registry = SiteRegistry(open_database(federation.database_url))
    held = Coordinator(federation, registry, Offers(federation))
    portal = make_portal(federation, registry, held.offers)

    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        await held.wrap(portal)(scope, receive, send)

    with serving(app, port, federation.certificates.cert_path):
        yield held


@pytest.fixture
def coordinator(_coordinator: Coordinator) -> Iterator[Coordinator]:
    """The coordinator, with nothing between it and the site, and nothing on offer."""
    yield _coordinator
    _coordinator.wrap = lambda app: app
    _coordinator.offers.withdraw()


@pytest.fixture
def site(tmp_path: Path, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A clean site: joined, its tables written, its study approved."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.delenv("MMFED_PASSPHRASE", raising=False)
    made = Site.joined(tmp_path, coordinator).write()
    made.approve()
    return made


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    """What planting may use."""
    folder = tmp_path / "bench"
    folder.mkdir()
    with ExitStack() as stack:
        yield Bench(monkeypatch, stack, folder)
