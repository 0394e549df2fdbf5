"""Spenders: what asks the budgets and writes the account before noise is used."""

from __future__ import annotations

from mmfed_common.errors import PrivacyError
from mmfed_common.mechanism import Mechanism
from mmfed_common.privacy import PrivacyPlan, composed, epsilon_of


class MemorySpender:
    """Keeps the account of one study in memory, for a simulation; the study's ε is its only budget.

    Parameters
    ----------
    plan
        What the study does at this site.
    """

    def __init__(self, plan: PrivacyPlan) -> None:
        self._plan = plan
        self._paid: set[tuple[int, int, bytes]] = set()
        self._releases: dict[bytes, Mechanism] = {}
        self._room = plan.total

    @property
    def plan(self) -> PrivacyPlan:
        """The plan by which it pays."""
        return self._plan

    @property
    def spent(self) -> tuple[Mechanism, ...]:
        """Everything that was paid."""
        return composed([*self._releases.values(), self._plan.mechanism(len(self._paid))])

    @property
    def epsilon(self) -> float:
        """ε of everything that was paid, at the study's δ."""
        return epsilon_of(self.spent, self._plan.delta)

    def before_step(self, round: int, step: int, inputs: bytes) -> None:
        """Pay for a step; ``MMF-308`` when the study's ε does not allow one more."""
        if (round, step, inputs) in self._paid:
            return
        if len(self._paid) >= self._room:
            self._refuse_excess([self._plan.mechanism(1)])
        self._paid.add((round, step, inputs))

    def before_release(self, mechanism: Mechanism, inputs: bytes) -> None:
        """Pay for something that is not a step; ``MMF-308`` when the study's ε does not allow it."""
        if inputs in self._releases:
            return
        self._refuse_excess([mechanism])
        self._releases[inputs] = mechanism
        self._room = self._plan.total if self._releases == {inputs: self._plan.scaling} else 0

    def reconcile(self, round: int, inputs: bytes, steps: int) -> None:
        """Compare the steps that a round took with those that were paid; ``MMF-309`` when they differ."""
        paid = sum((number, given) == (round, inputs) for number, _, given in self._paid)
        if paid != steps:
            raise PrivacyError("MMF-309", f"round {round} took {steps} steps, {paid} were paid")

    def _refuse_excess(self, more: list[Mechanism]) -> None:
        after = epsilon_of(composed([*self.spent, *more]), self._plan.delta)
        if after > self._plan.epsilon:
            raise PrivacyError("MMF-308", f"ε would be {after:.3f}, the study allows {self._plan.epsilon:g}")
