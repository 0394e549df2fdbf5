"""Choosing a setting without looking at the patients that judge it: inner folds within the training patients.

For each outer fold every candidate is trained in folds of the outer training patients alone, the best of them
is trained on all of these, and only then are the held-out patients scored. What was chosen may differ from
fold to fold; the figure is that of the whole procedure, choice included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmfed_client.cohort import Cohort
from mmfed_common.errors import StudyError
from mmfed_common.metrics import Censoring
from mmfed_common.topology import Topology
from mmfed_simulations.evaluation.folds import Fold, FoldPlan, plan_folds, training_follow_up
from mmfed_simulations.evaluation.scores import Scoring
from mmfed_simulations.evaluation.tasks_cache import Progress
from mmfed_simulations.evaluation.variants import Variant, train_variants

INNER_ARM = "pooled"
"""Candidates are compared by their pooled twins: the same figures where nothing is lost by not pooling, at a
third of the cost."""


@dataclass(frozen=True)
class Selected:
    """What nested cross-validation gave.

    Attributes
    ----------
    rows
        Rows of the table of predictions of the candidates that were chosen; ``arm`` is the given name.
    chosen
        Outer fold → candidate.
    inner
        Outer fold → candidate → mean over the inner folds of the metric, None where it is not defined.
    """

    rows: pd.DataFrame
    chosen: dict[str, str]
    inner: dict[str, dict[str, float | None]]


def select_by_inner_folds(
    candidates: Mapping[str, Variant],
    plan: FoldPlan,
    topology: Topology,
    folder: Path,
    *,
    arm: str,
    judged: tuple[str, str] = ("survival", "c_index"),
    inner_folds: int = 4,
    inner_seed: int | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Selected:
    """Choose a candidate in every outer fold by its figure in inner folds, then train it.

    Parameters
    ----------
    candidates
        Name → variant, in the order of preference: of two that score alike the first is taken.
    plan
        The outer folds.
    folder
        Finished trainings are kept in ``folder/cache``: the same call goes on after an interruption.
    arm
        What the rows are called.
    judged
        Task and metric by which is chosen; higher is better.
    inner_seed
        Of the hash that lays patients into inner folds; None: the study's. It must not be that of the outer
        folds: patients of one outer fold have neighbouring hashes, and the inner folds would be uneven.

    Raises
    ------
    StudyError
        ``MMF-507`` where no candidate has a figure in a fold's inner folds.
    """
    chosen: dict[str, str] = {}
    inner: dict[str, dict[str, float | None]] = {}
    rows = []
    for number, fold in enumerate(plan.folds):
        scores = _inner_scores(
            candidates, plan, fold, topology, folder, judged, inner_folds, inner_seed, workers
        )
        inner[fold.name] = scores
        chosen[fold.name] = _best(scores, fold)
        alone = replace(plan, folds=(fold,))
        taken = {arm: candidates[chosen[fold.name]]}
        rows.append(train_variants(taken, alone, topology, folder, workers))
        if progress is not None:
            progress(number + 1, len(plan.folds), f"chosen in fold {fold.name}: {chosen[fold.name]}")
    return Selected(pd.concat(rows, ignore_index=True), chosen, inner)


def training_cohort(plan: FoldPlan, fold: Fold) -> Cohort:
    """The patients of a fold that are not held out, without folds."""
    index = np.flatnonzero(~plan.held_out(fold))
    cohort = plan.cohort
    return Cohort(
        cohort.patients.select(torch.from_numpy(index)),
        tuple(cohort.sites[i] for i in index),
        None,
        cohort.warnings,
    )


def _inner_scores(
    candidates: Mapping[str, Variant],
    plan: FoldPlan,
    fold: Fold,
    topology: Topology,
    folder: Path,
    judged: tuple[str, str],
    inner_folds: int,
    inner_seed: int | None,
    workers: int,
) -> dict[str, float | None]:
    study = fold.study.with_changes(evaluation={"folds": inner_folds, "fold": 0})
    inner = plan_folds(study, training_cohort(plan, fold), "random", inner_seed)
    twins = {name: replace(candidate, arm=INNER_ARM) for name, candidate in candidates.items()}
    rows = train_variants(twins, inner, topology, folder, workers)
    follow_up = {f.name: Censoring(*training_follow_up(inner.cohort, inner.held_out(f))) for f in inner.folds}
    scoring = Scoring(study, rows, follow_up)
    task, metric = judged
    return {name: scoring.estimates(name)[task][metric].estimate for name in candidates}


def _best(scores: Mapping[str, float | None], fold: Fold) -> str:
    known = {name: score for name, score in scores.items() if score is not None}
    if not known:
        raise StudyError("MMF-507", "no candidate has a figure in the inner folds", fold.name)
    return max(known, key=lambda name: known[name])
