"""Spenders: before noise is used, the budget is asked and the payment is written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from mmfed_client.budget import Budget
from mmfed_client.ledger import EMPTY, Entry, Ledger
from mmfed_client.ledger.account import PLAN, RELEASE, ROUND, STEP, PaidRound, PrivacyAccount
from mmfed_client.policy import Policy
from mmfed_common.errors import PrivacyError
from mmfed_common.mechanism import Mechanism
from mmfed_common.names import utc_now
from mmfed_common.privacy import PrivacyPlan, epsilon_of
from mmfed_common.study import Study


class Book(Protocol):
    """Where payments are written: a site's ledger, or memory."""

    def append(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """Write an entry; it is kept when this returns."""

    def privacy(self) -> PrivacyAccount:
        """What all entries come to."""


class BookSpender:
    """Pays for the noisy results of one study; see :class:`~mmfed_client.privacy.spender.Spender`.

    Parameters
    ----------
    book
        Where payments are written before what they pay for is computed.
    budget
        What may be spent.
    plan
        What the study does at this site.
    """

    def __init__(self, book: Book, budget: Budget, plan: PrivacyPlan) -> None:
        self._book, self._budget, self._plan = book, budget, plan
        self._cleared = 0
        self._of_others = -1

    @property
    def plan(self) -> PrivacyPlan:
        """The plan by which it pays."""
        return self._plan

    @property
    def epsilon(self) -> float:
        """ε of everything that the study has paid, at its δ."""
        account = self._book.privacy().of(self._budget.study)
        return 0.0 if account is None else epsilon_of(account.spent, self._budget.delta)

    def before_step(self, round: int, step: int, inputs: bytes) -> None:
        """Pay for a step: it is written down when this returns. What was paid before is not paid again.

        A round that the budget cannot pay to its end is not begun.

        Raises
        ------
        PrivacyError
            ``MMF-308`` when the budget does not allow it, ``MMF-309`` when the plan has no such step,
            ``MMF-310`` to ``MMF-312`` when it cannot be written down: then the step must not be made.
        """
        if not 0 <= step < self._plan.steps_of_round:
            raise PrivacyError("MMF-309", f"a round has {self._plan.steps_of_round} steps, not {step + 1}")
        paid = self._paid(round, inputs)
        if paid is not None and step in paid.steps:
            return
        self._clear(self._plan.steps_of_round - (0 if paid is None else len(paid.steps)))
        plan = self._begin(round, inputs) if paid is None else paid.plan
        self._book.append(STEP, {"plan": plan, "step": step})

    def before_release(self, mechanism: Mechanism, inputs: bytes) -> None:
        """Pay for something that is not a step; errors as :meth:`before_step`."""
        account = self._book.privacy()
        if account.released(self._budget.study, inputs.hex(), mechanism):
            return
        self._budget.refuse_beyond(account, [mechanism])
        self._book.append(RELEASE, self._terms(mechanism, inputs))

    def reconcile(self, round: int, inputs: bytes, steps: int) -> None:
        """Write down that a round is done; ``MMF-309`` when it took other steps than were paid."""
        paid = self._paid(round, inputs)
        found = set() if paid is None else paid.steps
        if paid is None or found != set(range(steps)):
            raise PrivacyError("MMF-309", f"round {round} took {steps} steps, {len(found)} were paid")
        self._book.append(ROUND, {"plan": paid.plan})

    def _paid(self, round: int, inputs: bytes) -> PaidRound | None:
        return self._book.privacy().round(self._budget.study, round, inputs.hex(), self._plan.mechanism(1))

    def _begin(self, round: int, inputs: bytes) -> int:
        terms = self._terms(self._plan.mechanism(self._plan.steps_of_round), inputs)
        return self._book.append(PLAN, {**terms, "round": round}).number

    def _terms(self, mechanism: Mechanism, inputs: bytes) -> dict[str, Any]:
        return {
            "study": self._budget.study,
            "epsilon": self._plan.epsilon,
            "delta": self._plan.delta,
            "patients": self._plan.patients,
            "noise": mechanism.noise_multiplier,
            "rate": mechanism.sample_rate,
            "steps": mechanism.steps,
            "inputs": inputs.hex(),
            **self._of_whom(),
        }

    def _of_whom(self) -> dict[str, int]:
        """Where the noise is shared: what the guarantee rests on."""
        if not self._plan.honest_sites:
            return {}
        return {
            "honest_sites": self._plan.honest_sites,
            "colluding_sites": self._plan.colluding_sites,
        }

    def _clear(self, missing: int) -> None:
        """Be sure that so many more steps can be paid; what was cleared is not computed again.

        Asked is for the rest of the study first, which is the same question round after round.
        """
        account = self._book.privacy()
        own = account.of(self._budget.study)
        done = 0 if own is None else own.steps
        of_others = account.payments - done
        if of_others == self._of_others and done + missing <= self._cleared:
            return
        rest = self._plan.total - done
        if rest > missing:
            try:
                self._budget.refuse_beyond(account, [self._plan.mechanism(rest)])
            except PrivacyError:
                rest = missing
        if rest <= missing:
            rest = missing
            self._budget.refuse_beyond(account, [self._plan.mechanism(missing)])
        self._cleared, self._of_others = done + rest, of_others


class LedgerSpender(BookSpender):
    """Pays from a site's own budget; each payment is on the disk before what it pays for is computed.

    Parameters
    ----------
    ledger
        The site's ledger.
    policy
        The site's policy as it is now.
    """

    def __init__(self, ledger: Ledger, study: Study, policy: Policy, plan: PrivacyPlan) -> None:
        super().__init__(ledger, Budget.of(study, policy), plan)


class MemorySpender(BookSpender):
    """Keeps the account of one study in memory, for a simulation; the study's ε is its only budget."""

    def __init__(self, plan: PrivacyPlan) -> None:
        super().__init__(_Memory(), Budget("", plan.epsilon, plan.delta), plan)


class _Memory:
    def __init__(self) -> None:
        self._account, self._head = PrivacyAccount(), EMPTY

    def append(self, kind: str, body: Mapping[str, Any]) -> Entry:
        entry = Entry.after(self._head, utc_now(), kind, body)
        self._account.take_in(entry)
        self._head = entry.head
        return entry

    def privacy(self) -> PrivacyAccount:
        return self._account
