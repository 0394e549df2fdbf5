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
from mmfed_simulations.evaluation.gaps.hidden import NOTHING, Hidden, Modalities, joined
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
    hidden
        What is hidden of the patients' modalities.
    """

    arm: str
    changed: Callable[[Study], Study]
    hidden: Hidden = NOTHING


def as_is(study: Study) -> Study:
    """Leave the study as it is, for a variant that changes something else."""
    return study


def shown_name(variant: str, shown: Modalities) -> str:
    """Name, in the table of predictions, of a variant whose held-out patients show some modalities only."""
    return f"{variant}, shown {joined(shown)}"


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
    The table of predictions; its column ``arm`` holds the variants' names, or, for variants that are
    predicted several times, those of :func:`shown_name`.

    Raises
    ------
    MmfedError
        Whatever stops a training.
    """
    results = train_results(variants, plan, topology, folder, workers, progress, files)
    parts = []
    for name, variant in variants.items():
        names = {joined(shown): shown_name(name, shown) for shown in variant.hidden.shown}
        for result in results[name].values():
            rows = result.rows
            parts.append(rows.assign(arm=rows["arm"].map(names) if names else name))
    return pd.concat(parts, ignore_index=True)


def train_results(
    variants: Mapping[str, Variant],
    plan: FoldPlan,
    topology: Topology,
    folder: Path,
    workers: int = 2,
    progress: Progress | None = None,
    files: Path | None = None,
) -> dict[str, dict[Fold, ArmResult]]:
    """As :func:`train_variants`; gives variant → fold → all that its training gave."""
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    tasks = {
        (name, fold): Task(variant.arm, replace(fold, study=variant.changed(fold.study)), variant.hidden)
        for name, variant in variants.items()
        for fold in plan.folds
    }
    inputs = Inputs(plan.cohort, topology, cache, cohort_digest(plan.cohort), files)
    done, failures = run_tasks(inputs, list(tasks.values()), workers, progress)
    for failure in failures:
        raise failure.error
    return {name: {fold: done[tasks[name, fold]] for fold in plan.folds} for name in variants}
