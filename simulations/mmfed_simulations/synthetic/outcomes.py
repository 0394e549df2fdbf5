"""Outcomes from the planted truth: survival, response and toxicity, each with a known dependence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmfed_common.randomness import numpy_generator
from mmfed_simulations.synthetic.measurements import Measurements, standardise
from mmfed_simulations.synthetic.settings import SyntheticSettings
from mmfed_simulations.synthetic.truth import TOXICITIES, Floats, Integers, PlantedTruth

CLINICAL_WEIGHTS = {
    "age": 0.35,
    "stage": 0.45,
    "grade": 0.2,
    "ecog": 0.3,
    "male": 0.2,
    "smoker": 0.25,
    "ldh": 0.2,
}
RESPONSE_WEIGHTS = {"pathway": 1.3, "protein": 0.8, "stage": -0.5}
TOXICITY_WEIGHTS = {"age": 0.5, "metabolite": 1.0, "pathway": 0.8}
RESPONSES = ("none", "partial", "complete")


@dataclass(frozen=True)
class PlantedOutcomes:
    """Outcomes of every patient, complete: what is not recorded is decided later.

    Attributes
    ----------
    parts
        Part of the log-hazard → ``(patients,)``.
    log_hazard
        ``(patients,)`` their sum: the planted risk.
    death_days
        ``(patients,)`` time to death had nobody been censored.
    time_days, event
        ``(patients,)`` follow-up and whether death was seen.
    response_score, response
        ``(patients,)`` latent score and class index (0 none, 1 partial, 2 complete).
    toxicity_logit, toxicity
        ``(patients, labels)``.
    """

    parts: dict[str, Floats]
    log_hazard: Floats
    death_days: Floats
    time_days: Floats
    event: Integers
    response_score: Floats
    response: Integers
    toxicity_logit: Floats
    toxicity: Integers


def pathway_score(truth: PlantedTruth, measured: Measurements, index: int) -> Floats:
    """Weighted sum of the planted genes of one planted pathway, standardised: ``(patients,)``."""
    core = truth.cores[truth.planted_pathways[index % len(truth.planted_pathways)]]
    return standardise(measured.gene[:, core] @ truth.gene_weights[core])


def log_hazard_parts(
    settings: SyntheticSettings, truth: PlantedTruth, measured: Measurements
) -> dict[str, Floats]:
    """Parts of the log-hazard, each scaled to its deviation in ``settings.effects``."""
    facts = {
        "age": measured.age_years,
        "stage": measured.stage,
        "grade": measured.grade,
        "ecog": measured.ecog,
        "male": measured.male,
        "smoker": measured.smoking == 2,
        "ldh": np.log(measured.ldh),
    }
    clinical = sum(
        w * standardise(np.asarray(facts[k], dtype=np.float64)) for k, w in CLINICAL_WEIGHTS.items()
    )
    raw = {
        "clinical": np.asarray(clinical),
        "gene": measured.gene @ truth.gene_weights,
        "protein": measured.protein @ truth.protein_weights,
        "metabolite": measured.metabolite @ truth.metabolite_weights,
        "imaging": measured.imaging @ truth.imaging_weights,
    }
    return {name: getattr(settings.effects, name) * standardise(part) for name, part in raw.items()}


def follow_up(
    settings: SyntheticSettings, log_hazard: Floats, site_of: Integers
) -> tuple[Floats, Floats, Integers]:
    """Weibull death times, administrative censoring that differs by site, and drop-out; days.

    Returns
    -------
    death_days, time_days, event
    """
    draw = numpy_generator(settings.seed, "synthetic", "follow-up")
    n = len(site_of)
    scale = settings.median_days / np.log(2) ** (1 / settings.weibull_shape)
    exposure = -np.log1p(-draw.random(n)) * np.exp(-log_hazard)
    death = np.ceil(scale * exposure ** (1 / settings.weibull_shape))
    longest = draw.uniform(1500, 3650, size=settings.sites)[site_of]
    administrative = np.ceil(longest * draw.uniform(0.3, 1.0, size=n))
    dropped = np.ceil(draw.exponential(9000, size=n))
    censored = np.minimum(administrative, dropped)
    return death, np.minimum(death, censored), (death <= censored).astype(np.int64)


def draw_outcomes(
    settings: SyntheticSettings, truth: PlantedTruth, measured: Measurements, site_of: Integers
) -> PlantedOutcomes:
    """Draw every outcome of every patient."""
    draw = numpy_generator(settings.seed, "synthetic", "response and toxicity")
    n = len(site_of)
    parts = log_hazard_parts(settings, truth, measured)
    log_hazard = np.sum(list(parts.values()), axis=0)
    death, time, event = follow_up(settings, log_hazard, site_of)
    score = (
        RESPONSE_WEIGHTS["pathway"] * pathway_score(truth, measured, 0)
        + RESPONSE_WEIGHTS["protein"] * standardise(measured.protein @ truth.protein_weights)
        + RESPONSE_WEIGHTS["stage"] * standardise(measured.stage.astype(np.float64))
    )
    response = np.digitize(score + draw.logistic(size=n), [-0.3, 1.2])
    age = standardise(measured.age_years)
    logits = np.stack(
        [
            -1.0
            + TOXICITY_WEIGHTS["age"] * age
            + TOXICITY_WEIGHTS["metabolite"] * measured.metabolite[:, index]
            + TOXICITY_WEIGHTS["pathway"] * pathway_score(truth, measured, index)
            for index in range(len(TOXICITIES))
        ],
        axis=1,
    )
    toxicity = (draw.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    return PlantedOutcomes(parts, log_hazard, death, time, event, score, response, logits, toxicity)
