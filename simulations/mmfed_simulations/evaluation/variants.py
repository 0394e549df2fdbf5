"""One study in several variants, trained on the same folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_simulations.evaluation.folds import FoldPlan
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
    files: Path | None = None,
) -> pd.DataFrame:
    """Train every variant in every fold.

    Parameters
    ----------
    variants
        Name → variant.
    folder
        Finished trainings are kept in ``folder/cache``: the same call goes on after an interruption.
    files
        Where the files lie that the studies name, such as the bundles they start from.

    Returns
    -------
    The table of predictions; its column ``arm`` holds the variants' names.

    Raises
    ------
    MmfedError
        Whatever stops a training.
    """
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    tasks = {
        (name, fold.name): Task(variant.arm, replace(fold, study=variant.changed(fold.study)))
        for name, variant in variants.items()
        for fold in plan.folds
    }
    inputs = Inputs(plan.cohort, topology, cache, cohort_digest(plan.cohort), files)
    done, failures = run_tasks(inputs, list(tasks.values()), workers, progress)
    for failure in failures:
        raise failure.error
    rows = [done[task].rows.assign(arm=name) for (name, _), task in tasks.items()]
    return pd.concat(rows, ignore_index=True)
