"""What a privacy officer reads: in status, in the ledger, in a review."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.client.joined_home import JoinedHome, one_column_study

from mmfed_client.budget import outlook, spending_of
from mmfed_client.budget.words import down, up
from mmfed_client.cli.program import run
from mmfed_client.ledger import Ledger
from mmfed_client.policy import Policy
from mmfed_client.privacy.spending import LedgerSpender
from mmfed_common.privacy import PrivacyPlan, epsilon_of

POLICY = "largest_delta = 0.01\n"
CONTRACT = {**one_column_study().model_dump(mode="json")["contract"], "normalisation": "reference"}
STUDY = one_column_study("private", contract=CONTRACT, privacy={"mode": "dp", "epsilon": 2.0, "delta": 1e-3})


@pytest.fixture
def site(tmp_path: Path) -> JoinedHome:
    found = JoinedHome(tmp_path)
    found.home.policy_file.write_text(POLICY)
    return found


def one_round(ledger: Ledger) -> PrivacyPlan:
    plan = PrivacyPlan.of(STUDY, 40)
    spender = LedgerSpender(ledger, STUDY, Policy.from_text(POLICY), plan)
    for step in range(plan.steps_of_round):
        spender.before_step(1, step, bytes(32))
    spender.reconcile(1, bytes(32), plan.steps_of_round)
    return plan


def offered(site: JoinedHome) -> str:
    path = site.folder / "study.signed.json"
    path.write_text(site.sign(STUDY).to_json())
    return str(path)


def said(capsys: pytest.CaptureFixture[str], site: JoinedHome, *words: str) -> str:
    capsys.readouterr()
    run([*words, "--home", str(site.home.path)])
    return " ".join(capsys.readouterr().out.split())


def test_status_tells_spent_and_left(site: JoinedHome, capsys: pytest.CaptureFixture[str]) -> None:
    assert "ε" not in said(capsys, site, "status")
    assert run(["approve", offered(site), "--by", "Ada", "--yes", "--home", str(site.home.path)]) == 0
    plan = one_round(ledger := Ledger(site.home.ledger_file))
    text = said(capsys, site, "status")
    spent = epsilon_of(plan.mechanisms(1), plan.delta)
    assert f"private {STUDY.hash[:12]}: ε = {up(spent)} of 2 is spent" in text
    assert f"{down(2 - spent)} left) at δ = 0.001, for each of 40 patients" in text
    assert f"ε = {up(spent)} of 16, {down(16 - spent)} left" in text
    assert "one patient" in text
    assert "DP-SGD" in text
    assert "PRV" in text
    content = json.loads(said(capsys, site, "status", "--json"))["privacy"]
    assert content["lifetime"]["spent"] == content["studies"][0]["spent"] == pytest.approx(spent)
    assert content["lifetime"]["left"] == pytest.approx(16 - spent)
    assert spending_of(ledger, None).left is None


def test_what_is_shown_is_never_on_the_pleasant_side() -> None:
    assert (up(1.001), up(0.0), down(1.009), down(-0.5)) == ("1.01", "0.00", "1.00", "0.00")


def test_the_ledger_is_shown_in_words(site: JoinedHome, capsys: pytest.CaptureFixture[str]) -> None:
    one_round(Ledger(site.home.ledger_file))
    text = said(capsys, site, "ledger", "show")
    assert "noisy steps begin" in text
    assert "step 1 of entry 1 is paid" in text
    assert "took the steps that were paid" in text


def test_a_review_says_what_the_study_would_spend_of_what_is_left(
    site: JoinedHome, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, site, "review", offered(site))
    assert "the unit is one patient: ε = 2" in text
    assert "may spend up to ε = 2" in text
    assert "ε = 0.00 of 16" in text
    assert "14.00 would be left" in text
    assert "mean loss" not in text
    one_round(ledger := Ledger(site.home.ledger_file))
    assert "of it is spent" in outlook(ledger, STUDY, Policy.from_text(POLICY))
