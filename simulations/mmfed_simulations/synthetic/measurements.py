"""Clean measurements of every patient of the consortium, before batch effects and gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mmfed_common.randomness import numpy_generator
from mmfed_simulations.synthetic.settings import SyntheticSettings
from mmfed_simulations.synthetic.truth import MODULE, Floats, Integers, PlantedTruth

FACTOR_LOADING = 0.93
MODULE_LOADING = 0.9
ON_OFF = 0.8
"""Share of a pathway factor's variance that is its being active or not."""

SEGMENT = 15
"""Neighbouring genes that share a copy-number segment."""
METHYLATION_PATTERNS = 5
"""Genome-wide methylation patterns, such as the CpG island methylator phenotype."""

STAGES = ("I", "II", "III", "IV")
GRADES = ("G1", "G2", "G3")
SMOKING = ("never", "former", "current")


@dataclass(frozen=True)
class Measurements:
    """Latent biology and clean measurements, one row a patient.

    Attributes
    ----------
    age_years, male, stage, grade, ecog, smoking, ldh
        Clinical facts; ``stage`` 0–3, ``grade`` 0–2, ``ecog`` 0–3, ``smoking`` 0–2, ``ldh`` in U/l.
    gene
        ``(patients, genes)`` standardised activity; what the hazard depends upon.
    copy_number, mutation
        ``(patients, genes)`` GISTIC-like -2 … 2, and 0/1.
    methylation
        ``(patients, genes)`` logit of the methylated share.
    protein, metabolite
        ``(patients, names)`` standardised.
    imaging
        ``(patients, features)`` standardised patient mean; tiles scatter around it.
    """

    age_years: Floats
    male: Integers
    stage: Integers
    grade: Integers
    ecog: Integers
    smoking: Integers
    ldh: Floats
    gene: Floats
    copy_number: Integers
    mutation: Integers
    methylation: Floats
    protein: Floats
    metabolite: Floats
    imaging: Floats


def standardise(values: Floats) -> Floats:
    """Centre and scale each column over all patients; a constant column becomes 0."""
    deviation = values.std(axis=0)
    centred: Floats = (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return centred


def measure(settings: SyntheticSettings, truth: PlantedTruth, site_of: Integers) -> Measurements:
    """Draw every patient; sites differ in case mix (age and stage)."""
    n = len(site_of)
    draw = numpy_generator(settings.seed, "synthetic", "clinical")
    older = draw.normal(0, 3, size=settings.sites)[site_of]
    later = draw.normal(0, 0.25, size=settings.sites)[site_of]
    severity = draw.normal(size=n) + later
    clinical: dict[str, Any] = {
        "age_years": np.clip(np.round(draw.normal(63, 10, size=n) + older), 22, 92),
        "male": (draw.random(n) < 0.55).astype(np.int64),
        "stage": np.digitize(severity, [-0.6, 0.3, 1.1]),
        "grade": np.digitize(0.4 * severity + draw.normal(size=n), [-0.6, 0.6]),
        "ecog": np.digitize(0.3 * severity + draw.normal(size=n), [-0.2, 0.9, 2.0]),
        "smoking": draw.choice(3, size=n, p=[0.35, 0.4, 0.25]),
        "ldh": np.round(np.exp(draw.normal(5.3, 0.3, size=n) + 0.1 * severity)),
    }
    gene, copy_number, mutation, methylation = _genes(settings, truth, n)
    protein = 0.5 * gene[:, truth.codes_for] + np.sqrt(0.75) * _modules(
        settings, "protein", n, settings.proteins
    )
    imaging = 0.3 * severity[:, None] + _modules(settings, "imaging", n, settings.imaging_features)
    return Measurements(
        **clinical,
        gene=gene,
        copy_number=copy_number,
        mutation=mutation,
        methylation=methylation,
        protein=standardise(protein),
        metabolite=standardise(_modules(settings, "metabolite", n, settings.metabolites)),
        imaging=standardise(imaging),
    )


def _modules(settings: SyntheticSettings, modality: str, n: int, size: int) -> Floats:
    """Features that move together in modules of neighbours: ``(n, size)``, each of unit variance."""
    draw = numpy_generator(settings.seed, "synthetic", "modules", modality)
    of_feature = np.arange(size) // MODULE[modality]
    factors = draw.normal(size=(n, int(of_feature[-1]) + 1))
    own: Floats = draw.normal(size=(n, size))
    moving: Floats = MODULE_LOADING * factors[:, of_feature] + np.sqrt(1 - MODULE_LOADING**2) * own
    return moving


def _genes(
    settings: SyntheticSettings, truth: PlantedTruth, n: int
) -> tuple[Floats, Integers, Integers, Floats]:
    """Activity = pathway on or off + copy number + own variation; mutations and methylation follow it."""
    draw = numpy_generator(settings.seed, "synthetic", "genes")
    n_genes = settings.genes
    segments = draw.normal(size=(n, n_genes // SEGMENT + 1))[:, np.arange(n_genes) // SEGMENT]
    copies = np.sqrt(0.9) * segments + np.sqrt(0.1) * draw.normal(size=(n, n_genes))
    own = 0.4 * copies + np.sqrt(1 - 0.16) * draw.normal(size=(n, n_genes))
    activity = own.copy()
    for core in truth.cores.values():
        active = draw.choice([-1.0, 1.0], size=(n, 1))
        factor = np.sqrt(ON_OFF) * active + np.sqrt(1 - ON_OFF) * draw.normal(size=(n, 1))
        activity[:, core] = FACTOR_LOADING * factor + np.sqrt(1 - FACTOR_LOADING**2) * own[:, core]
    rate = draw.uniform(0.01, 0.06, size=n_genes)
    planted = truth.gene_weights != 0
    rate[planted] = draw.uniform(0.06, 0.15, size=int(planted.sum()))
    mutation = (draw.random((n, n_genes)) < rate).astype(np.int64)
    activity += 0.4 * mutation * planted
    gene = standardise(activity)
    copy_number = np.digitize(copies, [-2.0, -1.0, 1.0, 2.0]) - 2
    patterns = draw.normal(size=(n, METHYLATION_PATTERNS)) @ draw.normal(size=(METHYLATION_PATTERNS, n_genes))
    noise = np.sqrt(0.9 / METHYLATION_PATTERNS) * patterns + np.sqrt(0.1) * draw.normal(size=(n, n_genes))
    methylation = draw.normal(-0.5, 1.0, size=n_genes) - 0.2 * gene + 0.7 * noise
    return gene, copy_number, mutation, methylation
