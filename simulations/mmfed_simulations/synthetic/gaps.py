"""What stands between a patient's biology and a site's tables: batch effects and gaps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmfed_common.randomness import numpy_generator
from mmfed_simulations.synthetic.settings import SyntheticSettings
from mmfed_simulations.synthetic.truth import Floats, Integers

Booleans = npt.NDArray[np.bool_]

MISSING_WEIGHT = {
    "expression": 0.2,
    "methylation": 1.5,
    "cnv": 1.0,
    "mutation": 1.0,
    "protein": 1.5,
    "metabolite": 2.0,
    "imaging": 1.5,
}
"""How often a modality is missing, in units of ``settings.missing``."""


def batch_effect(settings: SyntheticSettings, modality: str, values: Floats, site_of: Integers) -> Floats:
    """Shift and stretch each feature by site; ``values`` are in deviations: ``(patients, features)``."""
    draw = numpy_generator(settings.seed, "synthetic", "batch", modality)
    shape = (settings.sites, values.shape[1])
    shift = draw.normal(0, settings.batch_effect, size=shape)
    stretch = np.exp(draw.normal(0, settings.batch_effect / 3, size=shape))
    moved: Floats = values * stretch[site_of] + shift[site_of]
    return moved


def lacks_modality(settings: SyntheticSettings, modality: str, site_of: Integers) -> Booleans:
    """Tell which patients lack a modality, alone or because their whole site does: ``(patients,)``."""
    draw = numpy_generator(settings.seed, "synthetic", "missing", modality)
    rate = min(0.9, settings.missing * MISSING_WEIGHT[modality])
    site_lacks = draw.random(settings.sites) < (0.0 if modality == "expression" else rate)
    patient_lacks = draw.random(len(site_of)) < rate
    if site_lacks.all():
        site_lacks[0] = False
    return np.asarray(patient_lacks | site_lacks[site_of], dtype=np.bool_)


def drop_values(settings: SyntheticSettings, modality: str, values: Floats) -> Floats:
    """Set a share of single values to NaN."""
    draw = numpy_generator(settings.seed, "synthetic", "values", modality)
    return np.where(draw.random(values.shape) < settings.values_missing, np.nan, values)
