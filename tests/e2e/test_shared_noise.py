"""Noise that sites share, between real processes over TLS: what is paid and told, who refuses, a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.consortium import OnDisk, write_plain_consortium

from mmfed_client.home import SiteHome
from mmfed_client.ledger import Ledger
from mmfed_client.ledger.account import StudyAccount
from mmfed_common import messages as m
from mmfed_common.bundle import load_bundle
from mmfed_common.privacy import PrivacyPlan, epsilon_of, told_epsilon
from mmfed_common.study import Study
from mmfed_simulations.processes.federation import Federation
from mmfed_simulations.processes.programs import wait_until

ROUNDS = 24
SPARE = 2
"""Attempts beyond the rounds that are paid: one in twenty, rounded up."""
SITES = 3
RUN_SECONDS = 240.0
ALLOWED = "require_privacy = true\nlargest_delta = 0.01\nallow_shared_noise = true\n"
REFUSED = ALLOWED.replace("allow_shared_noise = true", "allow_shared_noise = false")
PRIVACY = """
[privacy]
mode = "dp"
epsilon = 6.0
delta = 0.01
noise = "shared"
colluding_sites = 1
"""


def write_shared(folder: Path) -> OnDisk:
    """Three sites that may take part, all of them needed in each round, and one more."""
    there = write_plain_consortium(folder, ROUNDS, sites=SITES + 1, least=SITES)
    text = there.study.read_text(encoding="utf-8")
    text = text.replace("[aggregation]\n", "[aggregation]\nsecure = true\n")
    text = text.replace("[training]\n", "[training]\ngradient_clip = 0\n")
    there.study.write_text(f"{text}{PRIVACY}", encoding="utf-8")
    return there


def allow(federation: Federation, site: str, policy: str) -> None:
    """Write a site's policy."""
    SiteHome(federation.site_home(site)).policy_file.write_text(policy, encoding="utf-8")


def bodies(federation: Federation, site: str, kind: str) -> list[dict[str, Any]]:
    """What the entries of one kind of a site's ledger say."""
    return [dict(entry.body) for entry in federation.ledger(site) if entry.kind == kind]


def left(federation: Federation, site: str) -> list[dict[str, Any]]:
    """Receipts of masked updates: each is a result with noise of its own that left the site."""
    receipts = bodies(federation, site, "receipt")
    return [body for body in receipts if body["kind"] == m.TRAIN and "error" not in body]


def account_of(federation: Federation, site: str, study: Study) -> StudyAccount:
    """What a site's ledger says was paid."""
    ledger = Ledger(SiteHome(federation.site_home(site)).ledger_file)
    assert ledger.verify() == []
    account = ledger.privacy().of(study.hash)
    assert account is not None
    return account


def refuses(federation: Federation, site: str) -> None:
    """A site whose policy allows no shared noise: nobody can approve the study there, and nothing leaves."""
    federation.join(site)
    allow(federation, site, REFUSED)
    home = ("--home", str(federation.site_home(site)))
    done = federation.call("mmfed-client", "approve", "--yes", "--json", *home)
    assert done.returncode != 0
    assert json.loads(done.stdout)["error"]["code"] == "MMF-396"
    federation.start_site(site)
    wait_until(lambda: federation.site_status(site).get("code") == "MMF-396", RUN_SECONDS, "the refusal")
    assert [body["code"] for body in bodies(federation, site, "refusal")] == ["MMF-396"]


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_shared_noise_is_paid_told_and_refused_where_it_is_not_allowed(tmp_path: Path) -> None:
    there = write_shared(tmp_path / "consortium")
    study = Study.load(there.study)
    *taking_part, other = there.cohorts
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation:
        federation.found()
        federation.start_server()
        federation.wait_for_server()
        refuses(federation, other)
        for site in taking_part:
            federation.join(site)
            allow(federation, site, ALLOWED)
            federation.approve(site)
            federation.start_site(site)
        wait_until(lambda: federation.status()["round"] >= 3, RUN_SECONDS, "some rounds")
        victim = taking_part[1]
        sent = len(left(federation, victim))
        wait_until(lambda: len(left(federation, victim)) > sent, RUN_SECONDS, "the middle of a round")
        federation.sites[victim].kill()
        federation.start_site(victim)
        federation.wait_for("finished", RUN_SECONDS)

        for site in taking_part:
            account = account_of(federation, site, study)
            plan = PrivacyPlan.of(study, account.patients)
            results = len(left(federation, site))
            assert ROUNDS <= results <= account.steps <= ROUNDS + SPARE
            recorded = epsilon_of(account.spent, account.delta)
            spent = epsilon_of([plan.mechanism(results)], account.delta)
            assert spent <= recorded <= 6.0
            assert (account.honest_sites, account.colluding_sites) == (2, 1)
            (peers,) = bodies(federation, site, "masking-peers")
            assert set(peers["peers"]) == set(taking_part)
            plans = bodies(federation, site, "privacy-plan")
            assert {body["noise"] for body in plans} == {plan.sigma}
            home = ("--home", str(federation.site_home(site)))
            status = json.loads(federation.type(site, "mmfed-client", "status", "--json", *home).stdout)
            told = " ".join(status["privacy"]["words"])
            assert "The noise is shared by 2 sites or more" in told
            assert "no more than 1 of a round's sites help the coordinator" in told
        assert left(federation, other) == []
        entries, totals = federation.record()
        assert [entry["taken"] for entry in entries] == [taking_part] * ROUNDS
        assert not any(key.endswith("_loss") for entry in entries for key in entry)
        assert other not in {entry["site"] for entry in totals if entry["rounds"]}

        federation.release(tmp_path / "bundle")
    privacy = load_bundle(tmp_path / "bundle").index["privacy"]
    assert (privacy["noise"], privacy["epsilon"], privacy["delta"]) == ("shared", 6.0, 0.01)
    assert set(privacy["sites"].values()) == {told_epsilon(study, 20, ROUNDS)} == {6.0}
    assert "ε holds for sums only" in privacy["holds"]
    card = (tmp_path / "bundle" / "model_card.md").read_text(encoding="utf-8")
    assert privacy["holds"] in card
    assert privacy["mechanism"] in card
