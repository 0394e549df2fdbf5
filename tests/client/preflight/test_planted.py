"""Planted faults: each is named by its item, its code and its repair, and by nothing that it is not."""

from __future__ import annotations

import pytest
from tests.client.preflight import faults_data, faults_machine, faults_network, faults_study
from tests.client.preflight.planting import Bench, Planted
from tests.client.preflight.small_site import Site, alarms, as_text

from mmfed_client.preflight import NAMES
from mmfed_client.preflight.items import TRIAL_NAMES

QUICK = tuple(name for name in NAMES if name not in TRIAL_NAMES)
"""Items that need no torch: enough where the fault is none of data, memory or device."""
FAULTS: dict[str, Planted] = {
    **faults_machine.FAULTS,
    **faults_network.FAULTS,
    **faults_study.FAULTS,
    **faults_data.FAULTS,
}


def test_enough_faults_of_every_kind_are_planted() -> None:
    assert len(FAULTS) >= 50
    never = set(NAMES) - {planted.item for planted in FAULTS.values()}
    assert never == set()


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named_with_its_repair(name: str, site: Site, bench: Bench) -> None:
    planted = FAULTS[name]
    planted.plant(site, bench)
    findings = site.check(*(NAMES if planted.item in TRIAL_NAMES else QUICK))
    text = as_text(alarms(findings))
    named = [f for f in alarms(findings) if f.name == planted.item and f.code == planted.code]
    assert named, text
    assert named[0].state is planted.state, text
    assert any(planted.what in found.what and planted.repair in found.repair for found in named), text
    assert {found.code for found in alarms(findings)} <= {planted.code} | planted.also, text
