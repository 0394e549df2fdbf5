"""Calibration of every arm: deaths observed and expected, D-calibration by fold, coverage of lower bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmfed_common.metrics import (
    calibration_slope,
    calibration_table,
    coverage_limits,
    d_calibration,
    d_calibration_shares,
    deaths_over_follow_up,
    observed_and_expected,
    residual_test,
    risk_thirds,
)
from mmfed_common.metrics.estimate import Floats
from mmfed_common.metrics.resampled import Bools
from mmfed_common.study import Study
from mmfed_common.tasks.curves import cumulative_hazard_at, seen_within
from mmfed_simulations.evaluation.calibrating.recalibration import Fitted, has_curves
from mmfed_simulations.evaluation.predictions import LOWER_BOUND, known_survival, survival_matrix
from mmfed_simulations.evaluation.scores import COVERAGE, Scoring

COX = "cox_clinical"
LEAST_LOG = 1e-9


def calibration(
    study: Study,
    scoring: Scoring,
    fitted: Mapping[str, Mapping[str, Fitted]],
    arms: Mapping[str, Any],
    paired: Sequence[Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Arm → its calibration, for ``results.json``.

    Keys of an arm: ``by_risk`` (thirds of predicted risk), ``horizons``, ``deaths``, ``slope``,
    ``d_calibration`` and ``residuals`` (folds tested, folds rejected, p of all folds together), ``ibs`` with
    its gain over Kaplan–Meier and its difference from Cox, ``lower_bound`` (where there is one), ``folds``.

    Parameters
    ----------
    fitted
        Arm → fold → temperatures and bound that the predictions were made with.
    arms, paired
        Figures of ``results.json``.
    """
    contract = study.contract
    if contract.survival is None:
        return {}
    tables = {}
    for arm in scoring.arms:
        rows = scoring.predictions[scoring.predictions["arm"] == arm]
        rows = rows[known_survival(rows)]
        if rows.empty:
            continue
        tables[arm] = _by_risk(study, rows)
        if has_curves(contract, rows):
            tables[arm] |= _curves(study, rows, fitted.get(arm, {}))
            tables[arm] |= _brier(arm, arms, paired)
        if LOWER_BOUND in rows and rows[LOWER_BOUND].notna().all():
            tables[arm]["lower_bound"] = _bounds(rows, scoring.per_fold(arm), arms[arm], fitted[arm])
    return tables


def _outcome(rows: pd.DataFrame) -> tuple[Floats, Bools]:
    return rows["time_days"].to_numpy(np.float64), rows["event"].to_numpy(np.float64) == 1.0


def _by_risk(study: Study, rows: pd.DataFrame) -> dict[str, Any]:
    assert study.contract.survival is not None
    horizons = study.contract.survival.horizons
    third = risk_thirds(rows["risk_score"].to_numpy(np.float64), rows["fold"].to_numpy())
    table = calibration_table(survival_matrix(rows, horizons), horizons, *_outcome(rows), third)
    return {"by_risk": table, "horizons": [row for row in table if row["third"] == "all"]}


def _curves(study: Study, rows: pd.DataFrame, fitted: Mapping[str, Fitted]) -> dict[str, Any]:
    survival = study.contract.survival
    assert survival is not None
    folds = {str(fold): _fold(study, part, fitted.get(str(fold))) for fold, part in rows.groupby("fold")}
    time, event = _outcome(rows)
    hazard = cumulative_hazard_at(survival_matrix(rows, survival.bins), survival.bins, time)
    seen = seen_within(survival.bins, time, event)
    last = survival_matrix(rows, [max(survival.horizons)])[:, 0]
    predictor = np.log(np.clip(-np.log(np.clip(last, LEAST_LOG, 1.0)), LEAST_LOG, None))
    return {
        "deaths": deaths_over_follow_up(hazard, seen),
        "slope": calibration_slope(predictor, time, event, rows["fold"].to_numpy()).as_dict(),
        "d_calibration": {
            **_tested(folds, "d_calibration", d_calibration(np.exp(-hazard), seen).p),
            "shares": (d_calibration_shares(np.exp(-hazard), seen) / len(rows)).tolist(),
        },
        "residuals": _tested(folds, "residuals", residual_test(hazard, seen).p),
        "folds": folds,
    }


def _tested(folds: Mapping[str, Mapping[str, Any]], name: str, together: float) -> dict[str, Any]:
    rejected = [fold for fold, found in folds.items() if found[name]["rejected"]]
    return {"folds": len(folds), "rejected": len(rejected), "rejected_folds": rejected, "p": together}


def _fold(study: Study, rows: pd.DataFrame, fitted: Fitted | None) -> dict[str, Any]:
    survival = study.contract.survival
    assert survival is not None
    time, event = _outcome(rows)
    hazard = cumulative_hazard_at(survival_matrix(rows, survival.bins), survival.bins, time)
    seen = seen_within(survival.bins, time, event)
    alive = survival_matrix(rows, survival.horizons)
    temperatures = None if fitted is None else fitted.temperatures
    return {
        "n": len(rows),
        "events": int(event.sum()),
        "horizons": [
            {"horizon_days": days, **observed_and_expected(alive[:, k], days, time, event)}
            for k, days in enumerate(survival.horizons)
        ],
        "deaths": deaths_over_follow_up(hazard, seen),
        "d_calibration": d_calibration(np.exp(-hazard), seen).as_dict(),
        "residuals": residual_test(hazard, seen).as_dict(),
        "temperatures": None if temperatures is None else temperatures.as_dict(),
    }


def _brier(arm: str, arms: Mapping[str, Any], paired: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    figures = arms[arm]["survival"]
    wanted = (arm, COX, "survival", "ibs")
    cox = [r for r in paired if (r["first"], r["second"], r["task"], r["metric"]) == wanted]
    return {
        "ibs": figures["ibs"],
        "ibs_gain_over_kaplan_meier": figures["ibs_against_kaplan_meier"],
        "ibs_minus_cox": dict(cox[0]) if cox else None,
    }


def _bounds(
    rows: pd.DataFrame,
    per_fold: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    figures: Mapping[str, Any],
    fitted: Mapping[str, Fitted],
) -> dict[str, Any]:
    bound = rows[LOWER_BOUND].to_numpy(np.float64)
    bounds = {fold: one.bound for fold, one in fitted.items() if one.bound is not None}
    longest = rows["fold"].map({fold: one.longest_days for fold, one in bounds.items()}).to_numpy(np.float64)
    least, greatest = coverage_limits(bound, *_outcome(rows))
    reached = per_fold["survival"][COVERAGE]
    return {
        "level": next(iter(bounds.values())).level,
        "source": next(iter(fitted.values())).source,
        "coverage": figures["survival"][COVERAGE],
        "coverage_least": least,
        "coverage_greatest": greatest,
        "median_days": float(np.median(bound)),
        "at_longest": float((bound >= longest).mean()),
        "folds": {fold: {**one.as_dict(), "coverage": reached.get(fold)} for fold, one in bounds.items()},
    }
