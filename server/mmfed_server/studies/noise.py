"""What each choice of ``trainable`` costs in noise, for sites of several sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mmfed_common.errors import PrivacyError
from mmfed_common.masking.shared_noise import least_summed, shares_noise
from mmfed_common.model import build_model
from mmfed_common.privacy import PrivacyPlan
from mmfed_common.schedule import trained_parameters
from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_common.trainable import BY_SIZE, Trainable

SITES = (50, 200, 1000)
"""Training patients of the sites that are shown."""


@dataclass(frozen=True)
class SiteNoise:
    """What one step is like at a site.

    Attributes
    ----------
    patients
        Training patients of the site.
    sigma
        Deviation of the noise on the sum of gradients, in units of ``clipping``; None where the study cannot
        be kept private there, with the code of the reason.
    ratio
        Length of the noise, ``sigma · √parameters``, over the longest sum that the patients of a step can
        give, all of them pulling one way: their number on average. Where sites share noise: over those of
        the fewest sites of this size whose sum is opened.
    """

    patients: int
    sigma: float | None
    ratio: float | None
    refused: str = ""


@dataclass(frozen=True)
class NoiseCost:
    """One stage with one choice of what moves."""

    trainable: Trainable
    stage: int
    parameters: int
    chosen: bool
    sites: tuple[SiteNoise, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same for machines."""
        return asdict(self)


def noise_costs(study: Study, topology: Topology, sites: Sequence[int] = SITES) -> tuple[NoiseCost, ...]:
    """Work out every stage and choice; those that would move nothing are left out.

    Parameters
    ----------
    study
        A study with differential privacy.
    topology
        Its graph, which gives the model its sizes.
    """
    model = build_model(study, topology)
    numbers = {name: parameter.numel() for name, parameter in model.named_parameters()}
    plans = {patients: _plan(study, patients) for patients in sites}
    summed = least_summed(study.aggregation) if shares_noise(study) else 1
    costs = []
    for stage_number, stage in enumerate(study.training.stages, start=1):
        for choice in BY_SIZE:
            privacy = study.privacy.model_copy(update={"trainable": choice})
            names = trained_parameters(numbers, model.block_of, stage, privacy, study.model.frozen)
            if not names:
                continue
            count = sum(numbers[name] for name in names)
            rows = tuple(_site(patients, plans[patients], count, summed) for patients in sites)
            costs.append(NoiseCost(choice, stage_number, count, choice == study.privacy.trainable, rows))
    return tuple(costs)


def _plan(study: Study, patients: int) -> PrivacyPlan | str:
    try:
        return PrivacyPlan.of(study, patients)
    except PrivacyError as error:
        return error.code


def _site(patients: int, plan: PrivacyPlan | str, parameters: int, summed: int) -> SiteNoise:
    if isinstance(plan, str):
        return SiteNoise(patients, None, None, plan)
    ratio = plan.sigma * math.sqrt(parameters) / (plan.rate * patients * summed)
    return SiteNoise(patients, plan.sigma, ratio)
