"""Clean sites of many kinds raise no alarm."""

from __future__ import annotations

from tests.client.preflight.small_site import Site, alarms, as_text


def test_a_clean_site_has_no_alarm(site: Site) -> None:
    findings = site.check()
    assert alarms(findings) == [], as_text(findings)
