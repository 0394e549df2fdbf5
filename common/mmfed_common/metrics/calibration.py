"""Calibration: what was observed in each third of predicted risk, beside what was predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from lifelines import KaplanMeierFitter

from mmfed_common.metrics.estimate import Floats
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
            if not chosen.any():
                continue
            expected = float(1.0 - survival[chosen, column].mean())
            observed, low, high = _observed(time_days[chosen], event[chosen], float(horizon))
            ratio = observed / expected if observed is not None and expected > 0 else None
            rows.append(
                {
                    "horizon_days": float(horizon),
                    "third": name,
                    "n": int(chosen.sum()),
                    "expected": expected,
                    "observed": observed,
                    "low": low,
                    "high": high,
                    "observed_over_expected": ratio,
                }
            )
    return rows


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
