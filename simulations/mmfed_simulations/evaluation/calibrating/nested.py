"""Predictions that calibrate a fold without anything of it: by models that trained on neither of two folds.

For every pair of folds one more federation trains on the patients of all other folds and scores both. What it
says about the patients of the one calibrates the other. With five folds these are ten trainings more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mmfed_client.cohort import Cohort
from mmfed_common.errors import StudyError
from mmfed_common.topology import Topology
from mmfed_simulations.evaluation.calibrating.recalibration import NESTED_ARM, TEST_FOLD
from mmfed_simulations.evaluation.folds import FoldPlan
from mmfed_simulations.evaluation.tasks_cache import Inputs, Progress, Task, cohort_digest, run_tasks

LEAST_FOLDS = 3
MOST_FOLDS = 10


def nested_predictions(
    plan: FoldPlan, topology: Topology, cache: Path, workers: int, progress: Progress | None
) -> pd.DataFrame:
    """Train on all but two folds, for every pair of folds, and score both.

    Parameters
    ----------
    plan
        Folds by number, at least :data:`LEAST_FOLDS` and at most :data:`MOST_FOLDS`.
    cache
        Finished trainings are kept there.

    Returns ------- Rows of the table of predictions: ``fold`` is the patient's own, :data:`TEST_FOLD` the one
    that the row may calibrate. Every patient has a row for every other fold.

    Raises
    ------
    StudyError
        ``MMF-511`` for folds that are no numbers, too few or too many.
    MmfedError
        Whatever stops a training.
    """
    own_fold = plan.cohort.folds
    if own_fold is None or any(fold.study.evaluation.rule != "fold" for fold in plan.folds):
        raise StudyError("MMF-511", "nested calibration needs folds of patients, not sites that are left out")
    if not LEAST_FOLDS <= len(plan.folds) <= MOST_FOLDS:
        raise StudyError(
            "MMF-511", f"nested calibration needs {LEAST_FOLDS} to {MOST_FOLDS} folds, not {len(plan.folds)}"
        )
    fold_of = dict(zip(plan.cohort.patients.patient_ids, own_fold, strict=True))
    found = []
    for pairs in rounds_of_pairs(len(plan.folds)):
        cohort = merged(plan.cohort, pairs)
        inputs = Inputs(cohort, topology, cache, cohort_digest(cohort))
        tasks = {Task(NESTED_ARM, plan.folds[first]): (first, second) for first, second in pairs}
        done, failures = run_tasks(inputs, list(tasks), workers, progress)
        for failure in failures:
            raise failure.error
        for task, (first, second) in tasks.items():
            rows = done[task].rows
            own = rows["patient_id"].map(fold_of).astype(int)
            other = own.map({first: second, second: first}).astype(str)
            found.append(rows.assign(**{"fold": own.astype(str), TEST_FOLD: other}))
    return pd.concat(found, ignore_index=True)


def rounds_of_pairs(count: int) -> Iterator[list[tuple[int, int]]]:
    """Every pair of ``count`` folds once, in rounds in which no fold stands twice (circle method)."""
    places: list[int | None] = [*range(count), *([None] if count % 2 else [])]
    for _ in range(len(places) - 1):
        half = len(places) // 2
        pairs = zip(places[:half], reversed(places[half:]), strict=True)
        yield [(min(a, b), max(a, b)) for a, b in pairs if a is not None and b is not None]
        places = [places[0], places[-1], *places[1:-1]]


def merged(cohort: Cohort, pairs: list[tuple[int, int]]) -> Cohort:
    """The cohort with each pair's second fold given the number of the first: both are held out together."""
    assert cohort.folds is not None
    number = {second: first for first, second in pairs}
    return replace(cohort, folds=tuple(number.get(fold, fold) for fold in cohort.folds))
