"""What temperature scaling changes in the federated arm: none, a common one, one a set of modalities."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, get_args

import numpy as np
import pandas as pd

from mmfed_common.metrics import Censoring, Measured, bootstrap_counts, combine, paired_difference
from mmfed_common.metrics.resampled import MeanRatio
from mmfed_common.recalibration.temperature import negative_log_likelihood
from mmfed_common.study import Study
from mmfed_simulations.evaluation.calibrating.calibration import calibration
from mmfed_simulations.evaluation.calibrating.recalibration import (
    NESTED_ARM,
    TemperatureMode,
    has_curves,
    recalibrate,
)
from mmfed_simulations.evaluation.predictions import known_survival, survival_matrix
from mmfed_simulations.evaluation.scores import COVERAGE, Scoring

WITHOUT: TemperatureMode = "none"
COMPARED = ("c_index", "ibs", COVERAGE)


def temperature_effect(
    study: Study,
    predictions: pd.DataFrame,
    training: Mapping[str, Censoring],
    nested: pd.DataFrame | None = None,
) -> dict[str, dict[str, Any]]:
    """Score the federated arm with each way of scaling, fitted for each fold on the others' patients.

    Parameters
    ----------
    predictions
        The table of predictions before any temperature.
    training
        Fold → follow-up of its training patients.
    nested
        Predictions of :mod:`.nested_calibration`, where they are to calibrate.

    Returns
    -------
    ``"none"``, ``"common"``, ``"scenario"`` → figures and, for the latter two, paired differences from the
    first (``"minus_none"``); lower is better for ``log_loss`` (mean negative log-likelihood of the
    curves) and ``ibs``. Empty where there are no curves or fewer than two folds.
    """
    rows = predictions[predictions["arm"] == NESTED_ARM]
    if rows.empty or not has_curves(study.contract, rows) or rows["fold"].nunique() < 2:
        return {}
    done = {mode: recalibrate(study, rows, nested, mode) for mode in get_args(TemperatureMode)}
    by_mode = {mode: found.predictions.assign(arm=mode) for mode, found in done.items()}
    fitted = {mode: found.fitted[NESTED_ARM] for mode, found in done.items()}
    scoring = Scoring(study, pd.concat(by_mode.values(), ignore_index=True), training)
    arms = {
        mode: {"survival": {k: e.as_dict() for k, e in scoring.estimates(mode)["survival"].items()}}
        for mode in by_mode
    }
    tables = calibration(study, scoring, fitted, arms, [])
    losses = {mode: _log_loss(study, frame) for mode, frame in by_mode.items()}
    counts = _counts(study, losses[WITHOUT])
    found: dict[str, dict[str, Any]] = {}
    for mode in by_mode:
        figures = arms[mode]["survival"]
        found[mode] = {
            "log_loss": combine(losses[mode], counts).as_dict(),
            **{name: figures[name] for name in COMPARED if name in figures},
            **{name: tables[mode][name] for name in ("slope", "deaths", "d_calibration", "residuals")},
        }
        if mode != WITHOUT:
            against = scoring.differences(mode, WITHOUT, "survival")
            difference = paired_difference(losses[mode], losses[WITHOUT], counts)
            found[mode]["minus_none"] = {
                "log_loss": difference.as_dict(),
                **{name: against[name].as_dict() for name in COMPARED if name in against},
            }
    return found


def _log_loss(study: Study, frame: pd.DataFrame) -> dict[Hashable, Measured]:
    assert study.contract.survival is not None
    bins = study.contract.survival.bins
    known = frame[known_survival(frame)].sort_values(["fold", "patient_id"], kind="stable")
    losses: dict[Hashable, Measured] = {}
    for fold, rows in known.groupby("fold"):
        event = rows["event"].to_numpy(np.float64) == 1.0
        time = rows["time_days"].to_numpy(np.float64)
        loss = negative_log_likelihood(survival_matrix(rows, bins), bins, time, event)
        ratio = MeanRatio(loss, np.ones(len(loss)))
        losses[str(fold)] = Measured(float(loss.mean()), ratio, len(loss), int(event.sum()))
    return losses


def _counts(study: Study, losses: Mapping[Hashable, Measured]) -> dict[Hashable, Any]:
    resamples, seed = study.evaluation.bootstrap, study.study.seed
    return {
        fold: bootstrap_counts(one.n, resamples, seed, "log loss", str(fold)) for fold, one in losses.items()
    }
