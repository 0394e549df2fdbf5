"""One study in several variants, trained on the same folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_simulations.evaluation.arms import ArmResult
from mmfed_simulations.evaluation.folds import Fold, FoldPlan
from mmfed_simulations.evaluation.tasks_cache import Inputs, Progress, Task, cohort_digest, run_tasks


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes
    ----------
    arm
        The arm of a comparison that is trained, e.g. ``"federated"``.
    changed
        Makes the variant's study of that of a fold; must leave the held-out rule as it is.
    """

    arm: str
    changed: Callable[[Study], Study]


def train_variants(
    variants: Mapping[str, Variant],
    plan: FoldPlan,
    topology: Topology,
    folder: Path,
    workers: int = 2,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Train every variant in every fold.

    Parameters
    ----------
    variants
        Name → variant.
    folder
        Finished trainings are kept in ``folder/cache``: the same call goes on after an interruption.

    Returns
    -------
    The table of predictions; its column ``arm`` holds the variants' names.

    Raises
    ------
    MmfedError
        Whatever stops a training.
    """
    results = train_results(variants, plan, topology, folder, workers, progress)
    rows = [result.rows.assign(arm=name) for name, folds in results.items() for result in folds.values()]
    return pd.concat(rows, ignore_index=True)


def train_results(
    variants: Mapping[str, Variant],
    plan: FoldPlan,
    topology: Topology,
    folder: Path,
    workers: int = 2,
    progress: Progress | None = None,
) -> dict[str, dict[Fold, ArmResult]]:
    """As :func:`train_variants`; gives variant → fold → all that its training gave."""
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    tasks = {
        (name, fold): Task(variant.arm, replace(fold, study=variant.changed(fold.study)))
        for name, variant in variants.items()
        for fold in plan.folds
    }
    inputs = Inputs(plan.cohort, topology, cache, cohort_digest(plan.cohort))
    done, failures = run_tasks(inputs, list(tasks.values()), workers, progress)
    for failure in failures:
        raise failure.error
    return {name: {fold: done[tasks[name, fold]] for fold in plan.folds} for name in variants}
