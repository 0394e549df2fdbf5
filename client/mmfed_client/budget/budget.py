"""What may be spent on the patients of a site: by one study, and by all studies of its lifetime."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from mmfed_client.ledger.account import PrivacyAccount
from mmfed_client.policy import Policy
from mmfed_common.errors import PrivacyError, StudyError
from mmfed_common.mechanism import Mechanism
from mmfed_common.privacy import PrivacyPlan, composed, epsilon_of
from mmfed_common.study import Study


@dataclass(frozen=True)
class Budget:
    """The limits of one study at a site.

    All studies count as made on the same patients, whoever they were: what a patient loses adds up.

    Attributes
    ----------
    study
        Its hash.
    epsilon, delta
        What it may spend at most: its own ε, or the policy's if that is less; its δ.
    lifetime
        ε of all studies of the site together, at the smallest δ of any of them.
    """

    study: str
    epsilon: float
    delta: float
    lifetime: float = math.inf

    @staticmethod
    def of(study: Study, policy: Policy) -> Budget:
        """The stricter of study and policy.

        Raises
        ------
        StudyError
            ``MMF-501`` when the study has no ε or δ.
        """
        epsilon, delta = study.privacy.epsilon, study.privacy.delta
        if epsilon is None or delta is None:
            raise StudyError("MMF-501", "the study gives no `epsilon` and `delta`")
        most = min(epsilon, policy.most_epsilon_per_study)
        return Budget(study.hash, most, delta, policy.most_epsilon_lifetime)

    def refuse_beyond(self, account: PrivacyAccount, more: Iterable[Mechanism]) -> None:
        """Raise if something more would cost more than is left.

        Raises
        ------
        PrivacyError
            ``MMF-308`` with what it would come to.
        """
        added = tuple(more)
        own = account.of(self.study)
        spent = () if own is None else own.spent
        epsilon = epsilon_of(composed([*spent, *added]), self.delta)
        if epsilon > self.epsilon:
            what = f"this study would have spent ε = {epsilon:.3f}, it may spend {self.epsilon:g}"
            raise PrivacyError("MMF-308", what)
        self._refuse_lifetime([*account.spent(), *added], account)

    def refuse_plan(self, account: PrivacyAccount, plan: PrivacyPlan) -> None:
        """Raise if the whole study would cost more than there is beside the other studies; ``MMF-308``."""
        if plan.cost() > self.epsilon:
            what = f"it will spend ε = {plan.cost():.3f}, the policy allows {self.epsilon:g} for a study"
            raise PrivacyError("MMF-308", what)
        self._refuse_lifetime([*account.spent(but=self.study), *plan.mechanisms()], account)

    def _refuse_lifetime(self, mechanisms: list[Mechanism], account: PrivacyAccount) -> None:
        if math.isinf(self.lifetime):
            return
        delta = account.least_delta(self.delta)
        epsilon = epsilon_of(composed(mechanisms), delta)
        if epsilon > self.lifetime:
            raise PrivacyError(
                "MMF-308",
                f"all studies of this site together would have spent ε = {epsilon:.3f} at δ = {delta:g}, "
                f"the policy allows {self.lifetime:g}",
            )


def refuse_over_budget(account: PrivacyAccount, study: Study, policy: Policy, patients: int) -> None:
    """Before a study runs: can it be kept private here, and is there budget for all of it?

    Nothing is looked at for a study without differential privacy.

    Raises
    ------
    PrivacyError
        As :meth:`mmfed_common.privacy.PrivacyPlan.of`; ``MMF-308`` when the budget is too small.
    """
    if study.privacy.mode == "dp":
        Budget.of(study, policy).refuse_plan(account, PrivacyPlan.of(study, patients))
