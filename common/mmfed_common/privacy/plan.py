"""What a study with differential privacy does at one site: noise, sampling, steps, and what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmfed_common.errors import PrivacyError, StudyError
from mmfed_common.masking.shared_noise import rounds_paid, shares_noise
from mmfed_common.mechanism import Mechanism, sample_rate, steps_of_round
from mmfed_common.privacy.accounting import composed, epsilon_of, noise_for
from mmfed_common.study import Study


@dataclass(frozen=True)
class PrivacyPlan:
    """The noisy steps of a study at one site; a function of the study and the number of patients alone.

    Attributes
    ----------
    patients
        Training patients of the site; taken to be public.
    epsilon, delta
        The guarantee that the study promises each of them.
    sigma
        Noise multiplier of a training step: the noise on the sum of clipped gradients has the standard
        deviation ``sigma · clipping`` in each direction. Where sites share noise: on that of all of them.
    rate
        Probability with which a patient takes part in a step.
    steps_of_round, total
        Training steps of one round, and of all rounds. Where sites share noise, some rounds more are planned:
        each attempt at a round has noise of its own and is paid.
    scaling
        The release of noisy sums of features, where the study pays for one; it comes first.
    honest_sites
        Of how many sites the noise is surely in a sum, where they share it; 0 where the site adds all of it,
        and before the round's sites are known.
    colluding_sites
        How many others may help the coordinator meanwhile.
    """

    patients: int
    epsilon: float
    delta: float
    sigma: float
    rate: float
    steps_of_round: int
    total: int
    scaling: Mechanism | None = None
    honest_sites: int = 0
    colluding_sites: int = 0

    @staticmethod
    def of(study: Study, patients: int) -> PrivacyPlan:
        """Plan a study for a site.

        Raises
        ------
        StudyError
            ``MMF-501`` when the study does not ask for differential privacy, or lacks ε or δ.
        PrivacyError
            ``MMF-306`` when δ is not below 1 / patients, ``MMF-307`` when no noise reaches ε, ``MMF-371``
            when the site is too small for it.
        """
        privacy = study.privacy
        if privacy.mode != "dp" or privacy.epsilon is None or privacy.delta is None:
            raise StudyError("MMF-501", 'the study gives no `epsilon` and `delta` with `mode = "dp"`')
        epsilon, delta = privacy.epsilon, privacy.delta
        if patients < 1 or delta >= 1 / patients:
            what = f"δ = {delta:g} with {patients} patients: it must be below {1 / max(patients, 1):g}"
            raise PrivacyError("MMF-306", what)
        rate, steps = sample_rate(study.training, patients), steps_of_round(study.training, patients)
        shared = shares_noise(study)
        total = steps * (rounds_paid(study.training.rounds) if shared else study.training.rounds)
        scaling = _scaling(study, delta)
        beside = () if scaling is None else (scaling,)
        sigma = noise_for(epsilon, delta, rate, total, beside)
        # Shared noise is on the sum over all sites, so that a small site is not lost in it.
        if not shared and sigma >= rate * patients * math.sqrt(total):
            raise PrivacyError(
                "MMF-371",
                f"with {patients} patients and {total} steps the least noise for ε = {epsilon:g} at "
                f"δ = {delta:g} would be {sigma:g} on the sum of {rate * patients:g} patients a step: "
                "over all steps more than all of them together can contribute to one weight",
            )
        helping = privacy.colluding_sites if shared else 0
        return PrivacyPlan(
            patients, epsilon, delta, sigma, rate, steps, total, scaling, colluding_sites=helping
        )

    @property
    def site_sigma(self) -> float:
        """Noise multiplier of what this site adds: all of ``sigma``, or its share."""
        return self.sigma / math.sqrt(self.honest_sites or 1)

    @property
    def scaling_sigma(self) -> float | None:
        """Noise multiplier of sums of features, in units of their sensitivity; None: they are not paid."""
        return None if self.scaling is None else self.scaling.noise_multiplier

    def mechanism(self, steps: int) -> Mechanism:
        """Give so many training steps as a mechanism."""
        return Mechanism(self.sigma, self.rate, steps)

    def mechanisms(self, rounds: int | None = None) -> tuple[Mechanism, ...]:
        """Everything that is spent in so many rounds, the scaling included; None: in all of them."""
        steps = self.total if rounds is None else rounds * self.steps_of_round
        parts = [self.mechanism(steps)] if self.scaling is None else [self.scaling, self.mechanism(steps)]
        return composed(parts)

    def cost(self, rounds: int | None = None) -> float:
        """ε of so many rounds at the study's δ; None: of all of them."""
        return epsilon_of(self.mechanisms(rounds), self.delta)


def _scaling(study: Study, delta: float) -> Mechanism | None:
    paid = study.privacy.scaling_epsilon
    if paid is None or study.contract.normalisation != "federated":
        return None
    return Mechanism(noise_for(paid, delta, 1.0, 1), 1.0, 1)
