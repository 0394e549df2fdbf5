"""Payments: each before its step, nothing twice, nothing beyond a budget, the same after a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.simulations.small_federation import gene_study

from mmfed_client.budget import Budget, refuse_over_budget
from mmfed_client.ledger import Ledger
from mmfed_client.ledger.account import RELEASE, ROUND, STEP
from mmfed_client.policy import Policy
from mmfed_client.privacy.spending import BookSpender, MemorySpender
from mmfed_common.errors import PrivacyError
from mmfed_common.privacy import Mechanism, PrivacyPlan, epsilon_of, noise_for
from mmfed_common.study import Study

STEPS, ROUNDS, DELTA, RATE = 4, 3, 1e-3, 0.25
EPSILON = 2.0
ONE, TWO = b"1" * 32, b"2" * 32


def plan(epsilon: float = EPSILON, scaling: Mechanism | None = None) -> PrivacyPlan:
    total = STEPS * ROUNDS
    sigma = noise_for(epsilon, DELTA, RATE, total, () if scaling is None else (scaling,))
    return PrivacyPlan(80, epsilon, DELTA, sigma, RATE, STEPS, total, scaling)


def spender(ledger: Ledger, study: str = "a" * 64, lifetime: float = 16.0) -> BookSpender:
    return BookSpender(ledger, Budget(study, EPSILON, DELTA, lifetime), plan())


def run_round(payer: BookSpender, number: int, inputs: bytes = ONE) -> None:
    for step in range(STEPS):
        payer.before_step(number, step, inputs)
    payer.reconcile(number, inputs, STEPS)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.jsonl")


def refused(work: Callable[[], object]) -> PrivacyError:
    with pytest.raises(PrivacyError) as error:
        work()
    return error.value


def test_each_step_is_on_the_disk_before_it_is_made(ledger: Ledger) -> None:
    payer = spender(ledger)
    for step in range(STEPS):
        payer.before_step(1, step, ONE)
        elsewhere = Ledger(ledger.path).privacy().of("a" * 64)
        assert elsewhere is not None
        assert elsewhere.steps == step + 1
        assert elsewhere.done is None
    payer.reconcile(1, ONE, STEPS)
    account = Ledger(ledger.path).privacy().of("a" * 64)
    assert account is not None
    assert account.done == account.rounds == 1
    assert epsilon_of(account.spent, DELTA) == payer.epsilon > 0


def test_a_whole_study_costs_what_its_plan_says(ledger: Ledger) -> None:
    payer = spender(ledger)
    for number in range(1, ROUNDS + 1):
        run_round(payer, number)
    assert payer.epsilon == plan().cost() <= EPSILON
    kinds = [entry.kind for entry in ledger.entries()]
    assert (kinds.count(STEP), kinds.count(ROUND)) == (STEPS * ROUNDS, ROUNDS)


def test_the_same_again_costs_nothing_and_other_inputs_do(ledger: Ledger) -> None:
    run_round(spender(ledger), 1)
    before = ledger.head.length
    run_round(spender(Ledger(ledger.path)), 1)
    again = Ledger(ledger.path).privacy().of("a" * 64)
    assert again is not None
    assert again.steps == STEPS
    assert ledger.head.length == before + 1  # that the round is done, once more
    run_round(spender(ledger), 1, TWO)
    after = ledger.privacy().of("a" * 64)
    assert after is not None
    assert after.steps == 2 * STEPS


def test_a_round_that_was_broken_off_goes_on_where_it_was(ledger: Ledger) -> None:
    payer = spender(ledger)
    payer.before_step(1, 0, ONE)
    payer.before_step(1, 1, ONE)
    run_round(spender(Ledger(ledger.path)), 1)
    account = ledger.privacy().of("a" * 64)
    assert account is not None
    assert account.steps == STEPS


def test_the_budget_of_a_study_is_a_hard_stop_before_the_spend(ledger: Ledger) -> None:
    payer = spender(ledger)
    for number in range(1, ROUNDS + 1):
        run_round(payer, number)
    length, spent = ledger.head.length, payer.epsilon
    for asks in (payer, spender(Ledger(ledger.path))):
        assert refused(lambda asks=asks: asks.before_step(1, 0, TWO)).code == "MMF-308"  # type: ignore[misc]
    assert ledger.head.length == length
    assert payer.epsilon == spent <= EPSILON
    run_round(payer, ROUNDS)  # what is paid may be repeated


def test_a_round_that_cannot_be_paid_to_its_end_is_not_begun(ledger: Ledger) -> None:
    payer = spender(ledger)
    run_round(payer, 1)
    run_round(payer, 2)
    payer.before_step(3, 0, TWO)
    length = ledger.head.length
    assert refused(lambda: payer.before_step(3, 0, ONE)).code == "MMF-308"
    assert ledger.head.length == length


def test_studies_add_up_over_a_lifetime(ledger: Ledger) -> None:
    first, second = spender(ledger, "a" * 64, 3.0), spender(ledger, "b" * 64, 3.0)
    for number in range(1, ROUNDS + 1):
        run_round(first, number)
        run_round(second, number)
    account = ledger.privacy()
    together = epsilon_of(account.spent(), DELTA)
    assert EPSILON < together <= 3.0
    third = spender(ledger, "c" * 64, 3.0)
    assert "all studies" in refused(lambda: third.before_step(1, 0, ONE)).what
    assert account.of("c" * 64) is None


def test_another_study_between_is_seen(ledger: Ledger) -> None:
    """What one spender cleared no longer holds when another has paid meanwhile."""
    payer = spender(ledger, lifetime=2.05)
    payer.before_step(1, 0, ONE)
    other = spender(Ledger(ledger.path), "b" * 64, lifetime=16.0)
    for number in range(1, ROUNDS + 1):
        run_round(other, number)
    assert refused(lambda: run_round(payer, 1)).code == "MMF-308"


def test_sums_of_features_are_paid_once_and_first(ledger: Ledger) -> None:
    scaling = Mechanism(noise_for(0.5, DELTA, 1.0, 1), 1.0, 1)
    whole = plan(scaling=scaling)
    payer = BookSpender(ledger, Budget("a" * 64, EPSILON, DELTA), whole)
    payer.before_release(scaling, ONE)
    payer.before_release(scaling, ONE)
    assert [entry.kind for entry in ledger.entries()] == [RELEASE]
    for number in range(1, ROUNDS + 1):
        run_round(payer, number)
    assert payer.epsilon == whole.cost() <= EPSILON
    assert refused(lambda: payer.before_release(scaling, TWO)).code == "MMF-308"


def test_what_was_not_paid_cannot_be_settled(ledger: Ledger) -> None:
    payer = spender(ledger)
    payer.before_step(1, 0, ONE)
    assert refused(lambda: payer.reconcile(1, ONE, STEPS)).code == "MMF-309"
    assert refused(lambda: payer.reconcile(1, TWO, STEPS)).code == "MMF-309"
    assert refused(lambda: payer.before_step(1, STEPS, ONE)).code == "MMF-309"


def test_an_entry_that_is_not_of_its_form_stops_everything(ledger: Ledger) -> None:
    ledger.append("approval", {})
    with pytest.raises(PrivacyError, match="form"):
        ledger.append(STEP, {"plan": 7, "step": 0})
    assert refused(lambda: Ledger(ledger.path).privacy()).code == "MMF-310"


def test_memory_keeps_the_same_account() -> None:
    payer = MemorySpender(plan())
    for number in range(1, ROUNDS + 1):
        run_round(payer, number)
        run_round(payer, number)
    assert payer.epsilon == plan().cost()
    assert refused(lambda: payer.before_step(1, 0, TWO)).code == "MMF-308"


def private_study(epsilon: float = 1.0, delta: float = 1e-3) -> Study:
    privacy = {"mode": "dp", "epsilon": epsilon, "delta": delta}
    return Study.model_validate({**gene_study().model_dump(mode="json"), "privacy": privacy})


@pytest.mark.parametrize(("lifetime", "per_study"), [(0.9, 8.0), (16.0, 0.9)])
def test_a_study_without_room_is_refused_before_round_1(
    ledger: Ledger, lifetime: float, per_study: float
) -> None:
    study = private_study()
    policy = Policy(most_epsilon_lifetime=lifetime, most_epsilon_per_study=per_study)
    error = refused(lambda: refuse_over_budget(ledger.privacy(), study, policy, 80))
    assert error.code == "MMF-308"
    refuse_over_budget(ledger.privacy(), study, Policy(), 80)
    refuse_over_budget(ledger.privacy(), gene_study(), policy, 80)


@pytest.mark.parametrize(
    ("epsilon", "delta", "patients", "code"),
    [(1.0, 0.05, 20, "MMF-306"), (0.01, 1e-3, 20, "MMF-307"), (0.05, 1e-3, 20, "MMF-371")],
)
def test_a_site_is_told_why_it_cannot_be_kept_private(
    epsilon: float, delta: float, patients: int, code: str
) -> None:
    error = refused(lambda: PrivacyPlan.of(private_study(epsilon, delta), patients))
    assert error.code == code
    if code == "MMF-371":
        assert "with 20 patients" in error.what
        assert "the least noise for ε = 0.05" in error.what


def test_twenty_patients_can_be_kept_private() -> None:
    found = PrivacyPlan.of(private_study(), 20)
    assert found.cost() <= 1.0
    assert found.total == found.steps_of_round * private_study().training.rounds
