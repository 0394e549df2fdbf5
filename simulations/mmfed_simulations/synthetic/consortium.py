"""Make a synthetic consortium: the tables that each site would hold, and the truth behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmfed_common.randomness import numpy_generator
from mmfed_simulations.synthetic.gaps import Booleans, batch_effect, drop_values, lacks_modality
from mmfed_simulations.synthetic.measurements import GRADES, SMOKING, STAGES, Measurements, measure
from mmfed_simulations.synthetic.outcomes import RESPONSES, PlantedOutcomes, draw_outcomes
from mmfed_simulations.synthetic.settings import SyntheticSettings
from mmfed_simulations.synthetic.truth import TOXICITIES, Floats, Integers, PlantedTruth, plant

RESPONSE_UNKNOWN = 0.25
TOXICITY_UNKNOWN = 0.1


@dataclass(frozen=True)
class Consortium:
    """A synthetic consortium.

    Attributes
    ----------
    settings
        What it was made from.
    truth
        What is planted.
    tables
        Site → table name → table, each with a ``patient_id`` column. A site that lacks a modality has no
        such table; a patient who lacks it has no row.
    patients
        One row a patient: ``patient_id``, ``site``, ``log_hazard`` and its parts, ``death_days`` (had nobody
        been censored), ``os_days``, ``os_event``, ``response_score`` and ``logit_<toxicity>``.
    """

    settings: SyntheticSettings
    truth: PlantedTruth
    tables: dict[str, dict[str, pd.DataFrame]]
    patients: pd.DataFrame


def make_consortium(settings: SyntheticSettings) -> Consortium:
    """Make a consortium; the same settings give the same tables."""
    truth = plant(settings)
    sizes = site_sizes(settings)
    site_of = np.repeat(np.arange(settings.sites), sizes)
    names = [f"site-{i + 1:02d}" for i in range(settings.sites)]
    ids = np.array([f"S{s + 1:02d}-{i + 1:04d}" for s, size in enumerate(sizes) for i in range(size)])
    measured = measure(settings, truth, site_of)
    outcomes = draw_outcomes(settings, truth, measured, site_of)
    pooled = {
        "clinical": _clinical(settings, measured, outcomes, ids),
        "toxicity": _toxicity(settings, outcomes, ids),
        **_molecular(settings, truth, measured, site_of, ids),
        "imaging": _imaging(settings, truth, measured, site_of, ids),
    }
    site_name = pd.Series(np.array(names)[site_of], index=ids)
    tables: dict[str, dict[str, pd.DataFrame]] = {name: {} for name in names}
    for table, frame in pooled.items():
        for name, part in frame.groupby(frame["patient_id"].map(site_name), sort=True):
            tables[str(name)][table] = part.reset_index(drop=True)
    return Consortium(settings, truth, tables, _patients(outcomes, site_name))


def site_sizes(settings: SyntheticSettings) -> Integers:
    """Log-normal sizes that add up to ``patients``: ``(sites,)``, largest first."""
    draw = numpy_generator(settings.seed, "synthetic", "sizes")
    weight = np.sort(np.exp(draw.normal(0, settings.size_spread, size=settings.sites)))[::-1]
    least = min(settings.smallest_site, settings.patients // settings.sites)
    spare = settings.patients - least * settings.sites
    sizes = least + np.floor(spare * weight / weight.sum()).astype(np.int64)
    sizes[: settings.patients - int(sizes.sum())] += 1
    return np.asarray(sizes, dtype=np.int64)


def _clinical(
    settings: SyntheticSettings, measured: Measurements, outcomes: PlantedOutcomes, ids: Floats
) -> pd.DataFrame:
    draw = numpy_generator(settings.seed, "synthetic", "gaps", "clinical")
    frame = pd.DataFrame(
        {
            "patient_id": ids,
            "age": measured.age_years,
            "sex": np.where(measured.male == 1, "male", "female"),
            "stage": np.array(STAGES, dtype=object)[measured.stage],
            "grade": np.array(GRADES, dtype=object)[measured.grade],
            "ecog": measured.ecog.astype(np.float64),
            "smoking": np.array(SMOKING, dtype=object)[measured.smoking],
            "ldh": measured.ldh,
            "os_days": outcomes.time_days.astype(np.int64),
            "os_event": outcomes.event,
            "response": np.array(RESPONSES, dtype=object)[outcomes.response],
        }
    )
    for column in ("stage", "grade", "ecog", "smoking", "ldh"):
        frame.loc[draw.random(len(ids)) < min(0.9, 2 * settings.values_missing), column] = None
    frame.loc[draw.random(len(ids)) < RESPONSE_UNKNOWN, "response"] = None
    return frame


def _toxicity(settings: SyntheticSettings, outcomes: PlantedOutcomes, ids: Floats) -> pd.DataFrame:
    draw = numpy_generator(settings.seed, "synthetic", "gaps", "toxicity")
    values = outcomes.toxicity.astype(np.float64)
    values[draw.random(values.shape) < settings.values_missing] = np.nan
    frame = _frame(ids, TOXICITIES, values)
    return frame[draw.random(len(ids)) >= TOXICITY_UNKNOWN]


def _molecular(
    settings: SyntheticSettings, truth: PlantedTruth, measured: Measurements, site_of: Integers, ids: Floats
) -> dict[str, pd.DataFrame]:
    """Expression in TPM, methylation as a share, copy number -2 … 2, mutation 0/1, metabolites in µM."""
    draw = numpy_generator(settings.seed, "synthetic", "units")
    level, spread = draw.uniform(2, 6, size=settings.genes), draw.uniform(0.4, 0.9, size=settings.genes)
    amount = draw.uniform(1, 4, size=settings.metabolites)
    moved = {
        name: batch_effect(settings, name, values, site_of)
        for name, values in {
            "expression": measured.gene,
            "methylation": measured.methylation,
            "protein": measured.protein,
            "metabolite": measured.metabolite,
        }.items()
    }
    values = {
        "expression": np.maximum(np.expm1(level + spread * moved["expression"]), 0.0),
        "methylation": 1 / (1 + np.exp(-moved["methylation"])),
        "cnv": measured.copy_number.astype(np.float64),
        "mutation": measured.mutation.astype(np.float64),
        "protein": moved["protein"],
        "metabolite": np.maximum(np.expm1(amount + 0.5 * moved["metabolite"]), 0.0),
    }
    columns = {"protein": truth.proteins, "metabolite": truth.metabolites}
    tables = {}
    for name, matrix in values.items():
        gaps = matrix if name == "mutation" else drop_values(settings, name, matrix)
        frame = _frame(ids, columns.get(name, truth.genes), gaps.astype(np.float32))
        tables[name] = frame[~lacks_modality(settings, name, site_of)]
    return tables


def _imaging(
    settings: SyntheticSettings, truth: PlantedTruth, measured: Measurements, site_of: Integers, ids: Floats
) -> pd.DataFrame:
    """One row a tile: ``x``, ``y`` in tile widths, features scattered around the patient's own mean."""
    draw = numpy_generator(settings.seed, "synthetic", "tiles")
    keep: Booleans = ~lacks_modality(settings, "imaging", site_of)
    count = np.where(keep, draw.integers(1, settings.tiles + 1, size=len(ids)), 0)
    of_tile = np.repeat(np.arange(len(ids)), count)
    mean = batch_effect(settings, "imaging", measured.imaging, site_of)[of_tile]
    values = mean + 0.5 * draw.normal(size=mean.shape)
    frame = _frame(ids[of_tile], truth.imaging, drop_values(settings, "imaging", values).astype(np.float32))
    side = int(np.ceil(np.sqrt(settings.tiles))) + 1
    place = np.concatenate([draw.permutation(side * side)[:c] for c in count]) if len(of_tile) else of_tile
    frame.insert(1, "x", (place % side).astype(np.float64))
    frame.insert(2, "y", (place // side).astype(np.float64))
    return frame


def _frame(ids: Floats, columns: tuple[str, ...], values: Floats) -> pd.DataFrame:
    frame = pd.DataFrame(values, columns=list(columns))
    frame.insert(0, "patient_id", ids)
    return frame


def _patients(outcomes: PlantedOutcomes, site_name: pd.Series) -> pd.DataFrame:
    frame = pd.DataFrame({"patient_id": site_name.index, "site": site_name.to_numpy()})
    frame["log_hazard"] = outcomes.log_hazard
    for name, part in outcomes.parts.items():
        frame[f"log_hazard_{name}"] = part
    frame["death_days"] = outcomes.death_days
    frame["os_days"] = outcomes.time_days
    frame["os_event"] = outcomes.event
    frame["response_score"] = outcomes.response_score
    for index, name in enumerate(TOXICITIES):
        frame[f"logit_{name}"] = outcomes.toxicity_logit[:, index]
    return frame
