"""A row of a table: trained, scored and kept, so that no row is made twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmfed_common.durable import write_durably
from mmfed_common.metrics import Censoring, Estimate
from mmfed_common.study import Study
from mmfed_simulations.evaluation.folds import FoldPlan, training_follow_up
from mmfed_simulations.evaluation.results import without_nan
from mmfed_simulations.evaluation.scores import Scoring
from mmfed_simulations.tables.across import Difference

METRIC: dict[str, str] = {"survival": "c_index", "response": "auroc", "toxicity": "auroc_macro"}
"""Of which metric differences are given."""
DIGITS = 5
"""Decimals that are kept of a resample."""


@dataclass(frozen=True)
class RowResult:
    """What one row gave in one cohort.

    Attributes
    ----------
    study
        Hash of the study that was trained, held-out rule included, in the first fold.
    figures
        Task → metric → figure with its interval.
    differences
        Other row → task → paired difference of the task's metric.
    facts
        Anything else that is worth keeping, e.g. what was chosen.
    seconds
        How long it took to make, less what earlier rows had trained; None: made before that was noted.
    """

    study: str
    figures: dict[str, dict[str, Estimate]]
    differences: dict[str, dict[str, Difference]]
    facts: dict[str, Any]
    seconds: float | None = None

    def plain(self) -> dict[str, Any]:
        """For ``docs/results``: without the resamples, and without the time, which depends on the machine."""
        found = asdict(self)
        del found["seconds"]
        for others in found["differences"].values():
            for task, difference in others.items():
                others[task] = difference["estimate"]
        content: dict[str, Any] = without_nan(found)
        return content


def follow_up(plan: FoldPlan) -> dict[str, Censoring]:
    """Fold → follow-up of its training patients, for weights against censoring."""
    return {f.name: Censoring(*training_follow_up(plan.cohort, plan.held_out(f))) for f in plan.folds}


def score_row(
    plan: FoldPlan,
    study: Study,
    name: str,
    rows: Mapping[str, pd.DataFrame],
    facts: Mapping[str, Any] | None = None,
) -> RowResult:
    """Score one row, and its paired differences from others.

    Parameters
    ----------
    plan
        The folds.
    study
        The row's study: its tasks are scored, its hash is kept.
    name
        The row.
    rows
        Row → its rows of the table of predictions; all besides ``name`` are compared with it.
    """
    table = pd.concat([found.assign(arm=row) for row, found in rows.items()], ignore_index=True)
    scoring = Scoring(study, table, follow_up(plan))
    figures = scoring.estimates(name)
    differences: dict[str, dict[str, Difference]] = {}
    for other in rows:
        if other == name:
            continue
        differences[other] = {}
        for task in figures:
            found = scoring.differences(name, other, task)
            metric = METRIC[task]
            if metric in found:
                draws = scoring.measured_difference(name, other, task, metric).resampled(np.zeros((0, 0)))
                kept = tuple(round(float(value), DIGITS) for value in draws)
                differences[other][task] = Difference(found[metric], kept)
    return RowResult(study.hash, figures, differences, dict(facts or {}))


class RowCache:
    """Finished rows, one file each, named by what made them.

    Parameters
    ----------
    folder
        Where the files lie; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str, made_of: Mapping[str, Any], make: Callable[[], RowResult]) -> RowResult:
        """Give a row that was made of the same things, or make it.

        Parameters
        ----------
        name
            ``"TABLE/COHORT/ROW"``.
        made_of
            Everything that the row depends on: hashes of study and data, seeds, switches.
        """
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()[:16]
        path = self.folder / f"{name.replace('/', '-')}-{key}.json"
        if path.is_file():
            return _read(json.loads(path.read_text(encoding="utf-8")))
        began = time.perf_counter()
        result = make()
        result = replace(result, seconds=round(time.perf_counter() - began, 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, json.dumps(without_nan(asdict(result))).encode())
        return result


def _read(content: Mapping[str, Any]) -> RowResult:
    figures = {
        task: {metric: Estimate(**figure) for metric, figure in metrics.items()}
        for task, metrics in content["figures"].items()
    }
    differences = {
        other: {
            task: Difference(Estimate(**found["estimate"]), tuple(_number(d) for d in found["draws"]))
            for task, found in tasks.items()
        }
        for other, tasks in content["differences"].items()
    }
    return RowResult(content["study"], figures, differences, content["facts"], content.get("seconds"))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
