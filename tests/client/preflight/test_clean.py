"""Clean sites of many kinds raise no alarm, and the check leaves them as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp
from tests.client.preflight.clean_sites import CLEAN
from tests.client.preflight.planting import Bench
from tests.client.preflight.small_site import Site, alarms, as_text

from mmfed_client.preflight import NAMES, State


def test_twenty_kinds_of_sites_are_tried() -> None:
    assert len(CLEAN) >= 20


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_site_has_no_alarm(name: str, site: Site, bench: Bench) -> None:
    CLEAN[name](site, bench)
    findings = site.check()
    assert alarms(findings) == [], as_text(findings)
    assert {found.name for found in findings} == set(NAMES)
    step = next(found for found in findings if found.name == "training step")
    assert step.state is State.OK, as_text(findings)


def test_an_offer_is_compared_with_the_cohort_before_anything_is_approved(site: Site, bench: Bench) -> None:
    CLEAN["just joined, a study on offer"](site, bench)
    found = {finding.name: finding for finding in site.check()}
    assert "60 patients" in found["cohort"].what or "40 patients" in found["cohort"].what
    assert "of the site's own" in found["training step"].what
    assert list(site.home.studies.iterdir()) == []


def test_the_check_changes_nothing_and_sends_nothing(site: Site) -> None:
    seen: list[tuple[str, str, bytes]] = []

    def wrap(app: ASGIApp) -> ASGIApp:
        async def noting(scope: Any, receive: Any, send: Any) -> None:
            message = await receive()
            seen.append((scope["method"], scope["path"], message.get("body", b"")))

            async def again() -> Any:
                return message

            await app(scope, again, send)

        return noting

    site.coordinator.wrap = wrap
    before = _content(site.home.path)
    site.check()
    assert _content(site.home.path) == before
    assert {(method, body) for method, _, body in seen} == {("GET", b"")}
    assert {path for _, path, _ in seen} == {"/", "/mmfed/v1/offer"}


def _content(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mode, path.read_bytes()) for path in files}
