"""From the table of predictions to figures with intervals: within folds, paired between arms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from mmfed_common.contract import Contract
from mmfed_common.metrics import (
    Censoring,
    Estimate,
    Measured,
    auc_at,
    bootstrap_counts,
    combine,
    coverage,
    harrell_c,
    integrated_brier,
    measure_labels,
    measure_response,
    paired_difference,
    paired_figure,
    undefined,
    uno_c,
)
from mmfed_common.metrics.estimate import Floats
from mmfed_common.metrics.resampled import Bools
from mmfed_common.study import Study
from mmfed_simulations.evaluation.hospital.within_site import within_site_c
from mmfed_simulations.evaluation.predictions import (
    LOWER_BOUND,
    known_survival,
    scored_times,
    survival_column,
    survival_matrix,
)

Metrics = dict[str, dict[Hashable, Measured]]
COVERAGE = "coverage_90"
"""Share of patients who live at least as long as their lower bound says; its aim is .90, not 1."""


@dataclass(frozen=True)
class Scoring:
    """All metrics of all arms.

    Attributes
    ----------
    study
        Names tasks, horizons, resamples and seed.
    predictions
        The table of predictions.
    training
        Fold → follow-up of the fold's training patients.
    """

    study: Study
    predictions: pd.DataFrame
    training: Mapping[str, Censoring]

    def __post_init__(self) -> None:
        object.__setattr__(self, "predictions", self.predictions.reset_index(drop=True))

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """Arms in the order of the table."""
        return tuple(dict.fromkeys(self.predictions["arm"]))

    def estimates(self, arm: str) -> dict[str, dict[str, Estimate]]:
        """Task → metric → mean over folds with its interval."""
        result: dict[str, dict[str, Estimate]] = {}
        for task in self.study.contract.tasks:
            rows = self._rows(arm, task)
            if rows.empty:
                continue
            metrics = self._measure(rows, task)
            result[task] = {name: combine(folds, self._counts(rows, task)) for name, folds in metrics.items()}
            if task == "survival":
                result[task]["c_index_within_site"] = self.within_site(arm)
        return result

    def per_fold(self, arm: str) -> dict[str, dict[str, dict[str, float | None]]]:
        """Task → metric → fold → value (None where it is not defined)."""
        result: dict[str, dict[str, dict[str, float | None]]] = {}
        for task in self.study.contract.tasks:
            rows = self._rows(arm, task)
            if not rows.empty:
                result[task] = {
                    name: {str(f): m.value if m.defined else None for f, m in folds.items()}
                    for name, folds in self._measure(rows, task).items()
                }
        return result

    def differences(self, first: str, second: str, task: str) -> dict[str, Estimate]:
        """Metric → first minus second, on the patients that both arms score."""
        one, two, counts = self._paired(first, second, task)
        return {name: paired_difference(one[name], two[name], counts) for name in one if name in two}

    def measured_difference(self, first: str, second: str, task: str, metric: str) -> Measured:
        """First minus second as one figure: its mean over folds, and the same in each resample.

        For figures over several cohorts: its ``resampled`` gives one value a resample, whatever the counts.
        """
        one, two, counts = self._paired(first, second, task)
        if metric not in one or metric not in two:
            return undefined(0, None)
        return paired_figure(one[metric], two[metric], counts)

    def _paired(self, first: str, second: str, task: str) -> tuple[Metrics, Metrics, dict[Hashable, Floats]]:
        """Both arms' metrics on the patients that both score, and how often each patient is drawn."""
        one, two = self._rows(first, task), self._rows(second, task)
        both = _keys(one).intersection(_keys(two))
        one, two = one[_keys(one).isin(both)], two[_keys(two).isin(both)]
        if one.empty:
            return {}, {}, {}
        return self._measure(one, task), self._measure(two, task), self._counts(one, task)

    def within_site(self, arm: str, site: str | None = None) -> Estimate:
        """C-index over pairs of one site and fold; of all sites, or of one."""
        rows = self._rows(arm, "survival")
        if site is not None:
            rows = rows[rows["site"] == site]
        if rows.empty:
            return Estimate(None, None, None, 0, 0)
        counts = self._counts(rows, "survival")
        return within_site_c(rows, counts)

    def _rows(self, arm: str, task: str) -> pd.DataFrame:
        """Rows of an arm that a task can score, in a fixed order."""
        rows = self.predictions[self.predictions["arm"] == arm]
        rows = rows[scorable(rows, task, self.study.contract)]
        return rows.sort_values(["fold", "patient_id"], kind="stable")

    @cached_property
    def _drawn(self) -> dict[tuple[str, str], tuple[pd.Index, Floats]]:
        """(task, fold) → patients of all arms together, and how often each is drawn."""
        drawn = {}
        for task in self.study.contract.tasks:
            rows = self.predictions[scorable(self.predictions, task, self.study.contract)]
            for fold, group in rows.groupby("fold"):
                ids = pd.Index(sorted(set(group["patient_id"])))
                resamples = self.study.evaluation.bootstrap
                counts = bootstrap_counts(len(ids), resamples, self.study.study.seed, task, str(fold))
                drawn[task, str(fold)] = (ids, counts)
        return drawn

    def _counts(self, rows: pd.DataFrame, task: str) -> dict[Hashable, Floats]:
        counts: dict[Hashable, Floats] = {}
        for fold, group in rows.groupby("fold"):
            ids, drawn = self._drawn[task, str(fold)]
            counts[str(fold)] = drawn[:, ids.get_indexer(pd.Index(group["patient_id"])).astype(np.int64)]
        return counts

    @cached_property
    def _known(self) -> dict[tuple[str, tuple[int, ...]], dict[str, Measured]]:
        """(task, rows) → what was measured on them, so that nothing is measured twice."""
        return {}

    def _measure(self, rows: pd.DataFrame, task: str) -> Metrics:
        metrics: Metrics = {}
        for fold, group in rows.groupby("fold"):
            key = (task, tuple(group.index))
            if key not in self._known:
                self._known[key] = self._measure_fold(group, str(fold), task)
            for name, measured in self._known[key].items():
                metrics.setdefault(name, {})[str(fold)] = measured
        return metrics

    def _measure_fold(self, rows: pd.DataFrame, fold: str, task: str) -> dict[str, Measured]:
        contract = self.study.contract
        if task == "survival":
            return survival_metrics(rows, contract, self.training[fold])
        if task == "response":
            classes = contract.response.classes if contract.response is not None else ()
            names = rows["response_true"].map({name: k for k, name in enumerate(classes)})
            return measure_response(_matrix(rows, "response_", classes), names.to_numpy().astype(np.int64))
        labels = contract.toxicity.labels if contract.toxicity is not None else ()
        truth = _matrix(rows, "toxicity_true_", labels)
        return measure_labels(_matrix(rows, "toxicity_", labels), truth == 1.0, np.isfinite(truth))


def _keys(rows: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[["fold", "patient_id"]])


def _matrix(rows: pd.DataFrame, prefix: str, names: tuple[str, ...]) -> Floats:
    return np.asarray(rows[[prefix + name for name in names]].to_numpy(), dtype=np.float64)


def scorable(rows: pd.DataFrame, task: str, contract: Contract) -> Bools:
    """``(rows,)`` which rows have the task's outcome and a prediction of it."""
    if task == "survival":
        return known_survival(rows)
    if task == "response" and contract.response is not None:
        column = f"response_{contract.response.classes[0]}"
        if column not in rows:
            return np.zeros(len(rows), dtype=np.bool_)
        known = rows["response_true"].fillna("").ne("") & rows[column].notna()
        return np.asarray(known, dtype=np.bool_)
    labels = contract.toxicity.labels if contract.toxicity is not None else ()
    if not labels or f"toxicity_{labels[0]}" not in rows:
        return np.zeros(len(rows), dtype=np.bool_)
    truth = np.isfinite(_matrix(rows, "toxicity_true_", labels)).any(axis=1)
    return np.asarray(truth & rows[f"toxicity_{labels[0]}"].notna().to_numpy(), dtype=np.bool_)


def survival_metrics(rows: pd.DataFrame, contract: Contract, training: Censoring) -> dict[str, Measured]:
    """C (Harrell, Uno), AUC at each horizon, Brier scores and coverage of one arm in one fold.

    Uno's C counts deaths before the last horizon.
    """
    assert contract.survival is not None
    risk = rows["risk_score"].to_numpy(np.float64)
    time = rows["time_days"].to_numpy(np.float64)
    event = rows["event"].to_numpy(np.float64) == 1.0
    horizons = contract.survival.horizons
    measured = {
        "c_index": harrell_c(risk, time, event),
        "uno_c": uno_c(risk, time, event, training, max(horizons)),
    }
    times = scored_times(contract)
    if all(survival_column(t) in rows for t in times):
        ibs, relative = integrated_brier(survival_matrix(rows, times), times, time, event, training)
        measured |= {"ibs": ibs, "ibs_against_kaplan_meier": relative}
    for days in horizons:
        measured[f"auc_{days:.10g}"] = auc_at(risk, time, event, training, days)
    if LOWER_BOUND in rows and rows[LOWER_BOUND].notna().all():
        measured[COVERAGE] = coverage(rows[LOWER_BOUND].to_numpy(np.float64), time, event, training)
    return measured
