"""The check says before round 1 whether a site can keep a study's promise of privacy, and who pays for it."""

from __future__ import annotations

import pytest
from tests.client.preflight.small_site import Site

from mmfed_client.ledger import Ledger
from mmfed_client.preflight import State

POLICY = "largest_delta = 0.01\nmost_epsilon_lifetime = {lifetime}\n"
SPENT = {
    "study": "b" * 64,
    "epsilon": 3.0,
    "delta": 1e-3,
    "patients": 40,
    "noise": 2.0,
    "rate": 1.0,
    "steps": 1,
    "inputs": "00",
}


def private(site: Site, epsilon: float, delta: float = 1e-3, lifetime: float = 16.0) -> Site:
    site.content["contract"]["normalisation"] = "reference"
    site.content["privacy"] = {"mode": "dp", "epsilon": epsilon, "delta": delta}
    site.home.policy_file.write_text(POLICY.format(lifetime=lifetime))
    site.write().approve()
    return site


def test_noise_and_what_was_spent_before_are_told(site: Site) -> None:
    private(site, 3.0)
    Ledger(site.home.ledger_file).append("privacy-release", SPENT)
    (found,) = site.check("privacy")
    assert found.state is State.OK, found
    assert "ε = 3 at δ = 0.001" in found.what
    assert "of 16 was spent" in found.what


def test_a_real_private_step_is_made_and_not_paid(site: Site) -> None:
    private(site, 3.0)
    (found,) = site.check("training step")
    assert found.state is State.OK, found
    assert not any(entry.kind.startswith("privacy") for entry in Ledger(site.home.ledger_file).entries())


@pytest.mark.parametrize(
    ("epsilon", "delta", "spent", "code"),
    [(0.05, 1e-3, False, "MMF-371"), (3.0, 0.009, True, "MMF-308"), (0.01, 1e-3, False, "MMF-307")],
)
def test_what_cannot_be_kept_is_told_before_round_1(
    site: Site, epsilon: float, delta: float, spent: bool, code: str
) -> None:
    private(site, epsilon, delta, lifetime=3.1)
    if spent:
        Ledger(site.home.ledger_file).append("privacy-release", SPENT)
    (found,) = site.check("privacy")
    assert (found.state, found.code) == (State.FAULT, code), found
    assert found.repair


def test_a_small_site_is_warned(site: Site) -> None:
    (found,) = private(site, 0.15).check("privacy")
    assert (found.state, found.code) == (State.WARNING, "MMF-371"), found


def test_without_differential_privacy_there_is_nothing_to_say(site: Site) -> None:
    site.write().approve()
    (found,) = site.check("privacy")
    assert found.state is State.NOT_APPLICABLE


def shared(site: Site, epsilon: float) -> Site:
    site.content["training"] |= {"batch": 0, "local_epochs": 1, "optimiser": "sgd", "gradient_clip": 0}
    site.content["aggregation"] = {"secure": True, "minimum_sites": 3}
    private(site, epsilon)
    site.content["privacy"]["noise"] = "shared"
    site.home.policy_file.write_text(f"{POLICY.format(lifetime=16.0)}allow_shared_noise = true\n")
    site.write().approve()
    return site


def test_noise_that_is_shared_is_told_with_what_it_rests_on(site: Site) -> None:
    (found,) = shared(site, 3.0).check("privacy")
    assert found.state is State.OK, found
    assert "of which this site adds a share" in found.what
    assert "no more than 1 of a round's sites help it" in found.what
    (step,) = site.check("training step")
    assert step.state is State.OK, step


def test_a_share_that_does_not_fit_beside_few_patients_is_told_before_round_1(site: Site) -> None:
    (found,) = shared(site, 0.05).check("privacy")
    assert (found.state, found.code) == (State.FAULT, "MMF-398"), found
