"""Who pays: the contract between what adds noise and what keeps account of it."""

from __future__ import annotations

from typing import Protocol

from mmfed_common.mechanism import Mechanism
from mmfed_common.privacy import PrivacyPlan


class Spender(Protocol):
    """Keeps account of what a site spends in one study.

    ``inputs`` names everything that a result depends on beside its noise (weights, scaling, patients, noise
    multiplier, software). What has the same study, round, step and inputs has the same noise and the same
    result, so it is paid for once only, however often it is computed; with other inputs it costs anew.
    """

    @property
    def plan(self) -> PrivacyPlan:
        """The plan by which it pays."""

    def before_step(self, round: int, step: int, inputs: bytes) -> None:
        """Pay for a step, before any patient is touched; ``step`` counts from 0 in its round.

        Raises
        ------
        PrivacyError
            When this would exceed a budget: then the step must not be made.
        """

    def before_release(self, mechanism: Mechanism, inputs: bytes) -> None:
        """Pay for something that is not a step, such as noisy sums of features; as :meth:`before_step`."""

    def reconcile(self, round: int, inputs: bytes, steps: int) -> None:
        """Say that a round is done, and how many steps it took: they must be those that were paid."""
