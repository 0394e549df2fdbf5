"""Temperature scaling of discrete hazards, one temperature for each set of modalities that a patient has.

A patient's logits are pulled towards, or pushed away from, the mean logits of the calibration patients:
``centre + shift + (logit − centre) / temperature``. Above 1: the model was too sure of what tells patients
apart. The shift keeps the level right, because a mean of hazards is not the hazard of a mean. One over the
temperature is the calibration slope, the shift the calibration intercept (van Houwelingen 2000).

The likelihood is that of curves with a constant hazard rate within each bin, in which a patient counts for
the part of a bin that he was followed. That of training (:func:`.survival.hazard_loss`) leaves out the bin in
which a patient is censored, so that with wide bins its hazards come out somewhat high; the shift puts that
right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from mmfed_common.tasks.curves import Bools, Floats, hazard_logits

LEAST_EVENTS = 20
"""A set of modalities has its own temperature from so many deaths on; below, it takes the common one."""
SLOPES = (0.05, 20.0)
"""One over the temperature stays within these, whatever the patients say."""


@dataclass(frozen=True)
class Temperature:
    """Temperature and shift of one set of modalities, and what they stand on."""

    temperature: float
    shift: float
    n: int
    events: int

    def as_dict(self) -> dict[str, float | int]:
        """Plain form for ``results.json``."""
        return {"temperature": self.temperature, "shift": self.shift, "n": self.n, "events": self.events}


@dataclass(frozen=True)
class Temperatures:
    """Temperatures of one model.

    Attributes
    ----------
    centre
        Mean logit of the calibration patients in each bin.
    common
        Fitted on all calibration patients.
    by_scenario
        Set of modalities, e.g. ``"clinical_feature+gene"`` → its own; a set that is not here takes the common
        one.
    """

    centre: tuple[float, ...]
    common: Temperature
    by_scenario: Mapping[str, Temperature]

    def apply(self, survival: Floats, scenario: Sequence[str]) -> Floats:
        """Scale curves ``(patients, bins)`` at the bins' edges; ``scenario``: each patient's modalities."""
        chosen = [self.by_scenario.get(name, self.common) for name in scenario]
        slope = np.array([1.0 / one.temperature for one in chosen])[:, None]
        shift = np.array([one.shift for one in chosen])[:, None]
        centre = np.array(self.centre)
        logits = centre + shift + slope * (hazard_logits(survival) - centre)
        return np.asarray(np.exp(-np.logaddexp(0.0, logits).cumsum(axis=1)))

    def as_dict(self) -> dict[str, Any]:
        """Plain form for ``results.json`` and the bundle."""
        return {
            "centre": list(self.centre),
            "common": self.common.as_dict(),
            "scenarios": {name: one.as_dict() for name, one in sorted(self.by_scenario.items())},
        }


def fit_temperatures(
    survival: Floats,
    edges_days: Sequence[float],
    time_days: Floats,
    event: Bools,
    scenario: Sequence[str],
    *,
    by_scenario: bool,
) -> Temperatures | None:
    """Fit temperatures by maximum likelihood; see the module.

    Parameters
    ----------
    survival
        ``(patients, bins)`` predicted for the calibration patients at the bins' upper edges.
    time_days, event
        ``(patients,)`` follow-up and whether it ended in death.
    scenario
        ``(patients,)`` names of the sets of modalities.
    by_scenario
        Whether sets with :data:`LEAST_EVENTS` deaths have their own.

    Returns
    -------
    None where the calibration patients hold fewer than :data:`LEAST_EVENTS` deaths.
    """
    logits = hazard_logits(survival)
    if int((event & (time_days <= edges_days[-1])).sum()) < LEAST_EVENTS:
        return None
    centre = logits.mean(axis=0)
    everyone = np.ones(len(logits), dtype=np.bool_)
    common = _fit(logits, centre, edges_days, time_days, event, everyone)
    own: dict[str, Temperature] = {}
    names = np.array(list(scenario))
    for name in sorted(set(names.tolist())) if by_scenario else []:
        rows = names == name
        if int((event & rows & (time_days <= edges_days[-1])).sum()) >= LEAST_EVENTS:
            own[name] = _fit(logits, centre, edges_days, time_days, event, rows)
    return Temperatures(tuple(float(c) for c in centre), common, own)


def negative_log_likelihood(
    survival: Floats, edges_days: Sequence[float], time_days: Floats, event: Bools
) -> Floats:
    """Each patient's part of the likelihood, ``(patients,)``, with time counted in bins.

    Deaths after the last edge count as censored there.
    """
    lived, dies = _bins_lived(edges_days, time_days, event)
    rate = np.logaddexp(0.0, hazard_logits(survival))
    return np.asarray((rate * lived - np.where(dies, np.log(rate), 0.0)).sum(axis=1))


def _bins_lived(edges_days: Sequence[float], time_days: Floats, event: Bools) -> tuple[Floats, Bools]:
    """``(patients, bins)``: the part of each bin that a patient was followed, and whether he died in it."""
    edges = np.array([0.0, *edges_days])
    lived = np.clip((time_days[:, None] - edges[:-1]) / np.diff(edges), 0.0, 1.0)
    died_in = np.searchsorted(edges[1:], time_days, side="left")
    seen = event & (died_in < len(edges) - 1)
    return lived, (np.arange(len(edges) - 1) == died_in[:, None]) & seen[:, None]


def _fit(
    logits: Floats,
    centre: Floats,
    edges_days: Sequence[float],
    time_days: Floats,
    event: Bools,
    rows: npt.NDArray[np.bool_],
) -> Temperature:
    lived, dies = _bins_lived(edges_days, time_days[rows], event[rows])
    away = logits[rows] - centre

    def loss(point: Floats) -> tuple[float, Floats]:
        z = centre + point[0] + point[1] * away
        rate = np.logaddexp(0.0, z)
        value = float((rate * lived).sum() - np.log(rate[dies]).sum())
        steep = expit(z) * (lived - dies / rate)
        return value, np.array([steep.sum(), (steep * away).sum()])

    found = minimize(loss, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B", bounds=[(None, None), SLOPES])
    shift, slope = (float(v) for v in found.x)
    return Temperature(1.0 / slope, shift, int(rows.sum()), int(dies.any(axis=1).sum()))
