"""Temperatures and lower bounds of every arm, each fold's fitted on patients that it does not hold out.

``cross-fitted``: fold k takes the held-out predictions of all other folds. No patient of fold k calibrates
fold k, but the models that scored the others did train on fold k's patients: it is taken that this makes
their scores no different from those of the model at hand, on patients that it has not seen. ``nested``: the
others are scored by models that trained on neither their own fold nor fold k, so that nothing of fold k
enters; see :mod:`.nested_calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from mmfed_common.contract import Contract
from mmfed_common.recalibration import LowerBound, Temperatures, fit_lower_bound, fit_temperatures
from mmfed_common.study import Study
from mmfed_common.tasks import survival
from mmfed_common.tasks.curves import hazard_logits
from mmfed_simulations.evaluation.arm_names import NETWORK_ARMS, SINGLE_PREFIX
from mmfed_simulations.evaluation.predictions import (
    LOWER_BOUND,
    MODALITIES,
    known_survival,
    predicted_times,
    survival_column,
    survival_matrix,
)

Source = Literal["cross-fitted", "nested"]
TemperatureMode = Literal["none", "common", "scenario"]
TEST_FOLD = "test_fold"
"""Column of nested predictions: the fold that they calibrate."""
NESTED_ARM = "federated"


@dataclass(frozen=True)
class Fitted:
    """What the calibration patients of one fold gave.

    Attributes
    ----------
    source
        Whose predictions calibrated; see the module.
    temperatures
        None where none are applied.
    bound
        None where too few patients were followed.
    """

    source: Source
    temperatures: Temperatures | None
    bound: LowerBound | None

    def applied(self, contract: Contract, rows: pd.DataFrame) -> pd.DataFrame:
        """Scale the curves and risk scores of some rows, and add their lower bounds."""
        assert contract.survival is not None
        changed = rows.copy()
        scored = changed["risk_score"].notna().to_numpy()
        if self.temperatures is not None and scored.any():
            changed.loc[scored, :] = scaled(contract, changed.loc[scored], self.temperatures)
        if self.bound is not None and scored.any():
            curves = survival_matrix(changed.loc[scored], contract.survival.bins)
            changed.loc[scored, LOWER_BOUND] = self.bound.days(curves, contract.survival.bins)
        return changed


@dataclass(frozen=True)
class Recalibrated:
    """Predictions with bounds and, if the study asks, temperatures; arm → fold → what was fitted."""

    predictions: pd.DataFrame
    fitted: Mapping[str, Mapping[str, Fitted]] = field(default_factory=dict)


def recalibrate(
    study: Study,
    predictions: pd.DataFrame,
    nested: pd.DataFrame | None = None,
    mode: TemperatureMode | None = None,
) -> Recalibrated:
    """Fit and apply temperatures and lower bounds.

    Parameters
    ----------
    predictions
        The table of predictions with a unique index; arms with one fold, or without curves, stay as they are.
    nested
        Predictions of :mod:`.nested_calibration`, with :data:`TEST_FOLD`; they calibrate the federated arm.
    mode
        How temperatures are fitted; by default as the study's ``temperature`` says.
    """
    contract = study.contract
    if contract.survival is None:
        return Recalibrated(predictions)
    mode = mode or study.evaluation.temperature
    parts: list[pd.DataFrame] = []
    fitted: dict[str, dict[str, Fitted]] = {}
    for arm, rows in predictions.groupby("arm", sort=False):
        name = str(arm)
        others = rows if nested is None or name != NESTED_ARM else nested
        source: Source = "cross-fitted" if others is rows else "nested"
        if not has_curves(contract, rows) or rows["fold"].nunique() < 2:
            parts.append(rows)
            continue
        for fold, group in rows.groupby("fold", sort=False):
            pool = rows[rows["fold"] != fold] if others is rows else others[others[TEST_FOLD] == fold]
            own = fit(contract, pool, mode if scales(name) else "none", source)
            fitted.setdefault(name, {})[str(fold)] = own
            parts.append(own.applied(contract, group))
    if not fitted:
        return Recalibrated(predictions)
    columns = [*predictions.columns, LOWER_BOUND]
    whole = pd.concat(parts).sort_index().reindex(columns=columns)
    return Recalibrated(whole, fitted)


def fit(contract: Contract, pool: pd.DataFrame, mode: TemperatureMode, source: Source) -> Fitted:
    """Fit temperatures, then a lower bound on the curves that they give, on the same calibration patients."""
    assert contract.survival is not None
    bins = contract.survival.bins
    rows = pool[known_survival(pool)]
    time, event = rows["time_days"].to_numpy(np.float64), rows["event"].to_numpy(np.float64) == 1.0
    curves = survival_matrix(rows, bins)
    temperatures = None
    if mode != "none":
        names = rows[MODALITIES].tolist()
        temperatures = fit_temperatures(curves, bins, time, event, names, by_scenario=mode == "scenario")
        if temperatures is not None:
            curves = temperatures.apply(curves, names)
    return Fitted(source, temperatures, fit_lower_bound(curves, bins, time, event))


def scaled(contract: Contract, rows: pd.DataFrame, temperatures: Temperatures) -> pd.DataFrame:
    """Rows with scaled curves, and risk scores that belong to them."""
    assert contract.survival is not None
    bins = contract.survival.bins
    curves = temperatures.apply(survival_matrix(rows, bins), rows[MODALITIES].tolist())
    logits = torch.from_numpy(hazard_logits(curves))
    times = predicted_times(contract)
    alive = survival.survival_at(logits, bins, tuple(times.tolist())).numpy()
    columns = {survival_column(days): alive[:, k] for k, days in enumerate(times)}
    return rows.assign(risk_score=survival.risk_score(logits, bins).numpy(), **columns)


def has_curves(contract: Contract, rows: pd.DataFrame) -> bool:
    """Whether some patients with a known outcome have a whole predicted curve."""
    wanted = [survival_column(days) for days in predicted_times(contract)]
    known = rows[known_survival(rows)]
    return (
        all(name in rows for name in wanted) and not known.empty and bool(known[wanted].notna().all().all())
    )


def scales(arm: str) -> bool:
    """Whether temperatures are applied to an arm: those that are the study's network."""
    return arm in NETWORK_ARMS or arm.startswith(SINGLE_PREFIX)


def for_release(study: Study, predictions: pd.DataFrame) -> dict[str, Any] | None:
    """What a released model needs for scaled curves and lower bounds, fitted on all folds' held-out patients.

    The released model is trained on everybody; it is taken that its scores on a new patient are like those of
    the folds' models on the patients that they did not see.

    Parameters
    ----------
    predictions
        The table of predictions before any temperature.

    Returns
    -------
    None where the federated arm predicts no survival.
    """
    contract = study.contract
    rows = predictions[predictions["arm"] == NESTED_ARM]
    if contract.survival is None or rows.empty or not has_curves(contract, rows):
        return None
    found = fit(contract, rows, study.evaluation.temperature, "cross-fitted")
    return {
        "bins_days": list(contract.survival.bins),
        "lower_bound": None if found.bound is None else found.bound.as_dict(),
        "temperatures": None if found.temperatures is None else found.temperatures.as_dict(),
    }


def released_calibration(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a bundle states about calibration: how to apply it, and what the folds showed."""
    applied, found = results["recalibration"], results["calibration"].get(NESTED_ARM)
    if applied is None or found is None:
        return None
    shown = {name: found[name] for name in ("horizons", "deaths", "slope", "d_calibration", "residuals")}
    return {**applied, **shown, "coverage": found.get("lower_bound", {}).get("coverage")}
