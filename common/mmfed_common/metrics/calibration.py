"""Calibration: deaths observed and predicted at a horizon, by third of predicted risk; calibration slope."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.exceptions import ConvergenceError, ConvergenceWarning

from mmfed_common.metrics.estimate import Estimate, Floats
from mmfed_common.metrics.resampled import Bools

THIRDS = ("low", "middle", "high")


def risk_thirds(risk_score: Floats, fold: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Split patients into thirds of predicted risk within their fold: 0 low, 1 middle, 2 high.

    Thirds are by rank, ties broken by position, so that sizes differ by at most one patient in a fold.
    """
    third = np.zeros(len(risk_score), dtype=np.int64)
    for value in np.unique(fold):
        rows = np.flatnonzero(fold == value)
        order = np.argsort(np.argsort(risk_score[rows], kind="stable"), kind="stable")
        third[rows] = (order * 3) // max(len(rows), 1)
    return third


def calibration_table(
    survival: Floats, horizons_days: Sequence[float], time_days: Floats, event: Bools, third: npt.NDArray[Any]
) -> list[dict[str, Any]]:
    """Compare predicted with observed deaths at each horizon, in each third of risk and in all.

    Observed is one minus Kaplan–Meier at the horizon with its 95 % interval (log-log, by lifelines);
    expected is the mean predicted probability of death. ``None`` where nobody was followed that far.

    Parameters
    ----------
    survival
        ``(patients, horizons)`` predicted probability of being alive.
    """
    rows: list[dict[str, Any]] = []
    groups = [("all", np.ones(len(third), dtype=np.bool_))]
    groups += [(name, third == k) for k, name in enumerate(THIRDS)]
    for column, horizon in enumerate(horizons_days):
        for name, chosen in groups:
            if chosen.any():
                found = observed_and_expected(
                    survival[chosen, column], float(horizon), time_days[chosen], event[chosen]
                )
                rows.append({"horizon_days": float(horizon), "third": name, **found})
    return rows


def observed_and_expected(
    survival: Floats, horizon_days: float, time_days: Floats, event: Bools
) -> dict[str, float | int | None]:
    """Deaths by one horizon: observed (Kaplan–Meier, 95 % interval), predicted, and their ratio.

    Parameters
    ----------
    survival, time_days, event
        ``(patients,)``; survival is the predicted probability of being alive at the horizon.

    Returns
    -------
    ``n``, ``expected``, ``observed``, ``low``, ``high`` (of observed), ``observed_over_expected``; None where
    nobody was followed that far.
    """
    expected = float(1.0 - survival.mean())
    observed, low, high = _observed(time_days, event, horizon_days)
    ratio = observed / expected if observed is not None and expected > 0 else None
    return {
        "n": len(survival),
        "expected": expected,
        "observed": observed,
        "low": low,
        "high": high,
        "observed_over_expected": ratio,
    }


def calibration_slope(predictor: Floats, time_days: Floats, event: Bools, fold: npt.NDArray[Any]) -> Estimate:
    """Slope of a Cox regression on the predictor, each fold with its own baseline: 1 is right.

    Below 1 the model is too sure of what tells patients apart, above 1 not sure enough (van Houwelingen
    2000).

    Parameters
    ----------
    predictor
        ``(patients,)`` log of the predicted cumulative hazard at one horizon.
    """
    frame = pd.DataFrame({"x": predictor, "time": time_days, "event": event.astype(float), "fold": fold})
    nothing = Estimate(None, None, None, len(frame), int(event.sum()))
    if not event.any() or not (frame.groupby("fold")["x"].nunique() > 1).any():
        return nothing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of a predictor that hardly varies
            model = CoxPHFitter().fit(frame, "time", "event", strata=["fold"])
    except ConvergenceError:  # a predictor that orders the deaths perfectly has no finite slope
        return nothing
    low, high = (float(v) for v in model.confidence_intervals_.loc["x"])
    return Estimate(float(model.params_["x"]), low, high, len(frame), int(event.sum()))


def _observed(
    time_days: Floats, event: Bools, horizon: float
) -> tuple[float | None, float | None, float | None]:
    if time_days.max() < horizon:
        return None, None, None
    fitter = KaplanMeierFitter().fit(time_days, event)
    alive = float(fitter.predict(horizon))
    interval = fitter.confidence_interval_
    before = interval.loc[interval.index <= horizon].iloc[-1]
    low, high = 1.0 - float(before.iloc[1]), 1.0 - float(before.iloc[0])
    if not (np.isfinite(low) and np.isfinite(high)):
        return 1.0 - alive, None, None
    return 1.0 - alive, low, high
