"""Training a benchmark's methods: on the published split with several seeds, and on fresh partitions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmfed_common.durable import write_durably
from mmfed_common.heldout import hash_folds
from mmfed_common.metrics import Censoring, Estimate
from mmfed_simulations.evaluation.folds import Fold, FoldPlan, training_follow_up
from mmfed_simulations.evaluation.nested import select_by_inner_folds
from mmfed_simulations.evaluation.results import without_nan
from mmfed_simulations.evaluation.scores import Scoring
from mmfed_simulations.evaluation.tasks_cache import Progress
from mmfed_simulations.evaluation.variants import train_variants
from mmfed_simulations.reproduction.benchmarks import TEST, Loaded
from mmfed_simulations.reproduction.methods import CHOSEN, decays, method_names, methods

RECORD = "reproduced.json"
REFERENCE = "pooled"
IBS = "ibs"
INNER_FOLDS = 3


@dataclass(frozen=True)
class Figures:
    """A method in one protocol; means over its trials (seeds, or partitions).

    Attributes
    ----------
    method
        Its key, as in :data:`.methods.LABELS`.
    figure
        The benchmark's metric over all test patients; the bounds are means of the trials' 95 % bounds.
    spread
        Standard deviation over the trials; None for one.
    sites_mean, ibs
        Mean over the sites of the metric, and of the integrated Brier score, within each; None where it is
        not defined.
    sites
        Site → metric → mean over the trials.
    difference
        Of the metric from ``pooled``, on the same patients.
    """

    method: str
    figure: Estimate
    spread: float | None
    sites_mean: float | None
    ibs: float | None
    sites: dict[str, dict[str, float | None]]
    difference: Estimate


@dataclass(frozen=True)
class Reproduction:
    """A benchmark, run again.

    Attributes
    ----------
    split
        Figures on the published split, one trial a seed.
    partitions
        Figures of repeated cross-validation, one trial a partition of all patients.
    published
        Method → published figures: ``pooled``, ``deviation``, ``sites``.
    """

    split: list[Figures]
    partitions: list[Figures]
    published: dict[str, dict[str, float]]


def reproduce(
    loaded: Loaded,
    out: Path,
    *,
    seeds: int = 5,
    partitions: int = 4,
    workers: int = 2,
    progress: Progress | None = None,
) -> Reproduction:
    """Train and score every method; ``out/reproduced.json`` holds what is returned.

    Parameters
    ----------
    seeds
        Trainings on the published split.
    partitions
        Fresh partitions of all patients into the study's number of folds; none when 0.

    Raises
    ------
    MmfedError
        Whatever stops a training.
    """
    split = [_Trial(_published_split(loaded), seed, f"seed {seed}") for seed in range(seeds)]
    fresh = [_Trial(_partition(loaded, number), 0, f"partition {number}") for number in range(partitions)]
    whole = [*split, *fresh]
    scores = {}
    for number, trial in enumerate(whole):
        tell = _within(progress, number, len(whole), trial.label)
        scores[trial.label] = _score(loaded, trial, out, workers, tell)
    found = Reproduction(
        list(_figures(loaded, [scores[t.label] for t in split])),
        list(_figures(loaded, [scores[t.label] for t in fresh])),
        {name: loaded.figures(name) for name in method_names(loaded.benchmark)},
    )
    write_durably(out / RECORD, json.dumps(plain(loaded, found), indent=1).encode())
    return found


def plain(loaded: Loaded, found: Reproduction) -> dict[str, Any]:
    """The same for machines; what is not defined is None."""
    about = {
        "benchmark": loaded.benchmark.name,
        "metric": loaded.benchmark.metric,
        "study": loaded.study.hash,
    }
    content: dict[str, Any] = without_nan({**about, **asdict(found)})
    return content


@dataclass(frozen=True)
class _Trial:
    plan: FoldPlan
    seed: int
    label: str


def _published_split(loaded: Loaded) -> FoldPlan:
    study = loaded.study.with_changes(evaluation={"rule": "fold", "folds": 2, "fold": TEST})
    return FoldPlan(loaded.cohort, (Fold("test", study),), "FLamby's test patients.")


def _partition(loaded: Loaded, number: int) -> FoldPlan:
    count = loaded.study.evaluation.folds
    ids = loaded.cohort.patients.patient_ids
    folds = hash_folds(loaded.study.study.seed + number, ids, count)
    made = tuple(
        Fold(str(k), loaded.study.with_changes(evaluation={"rule": "fold", "folds": count, "fold": k}))
        for k in range(count)
    )
    return FoldPlan(replace(loaded.cohort, folds=folds), made, f"{count} folds by hash of the patient id.")


def _within(progress: Progress | None, number: int, trials: int, label: str) -> Progress | None:
    """Progress of one trial as part of all of them."""
    if progress is None:
        return None
    tell: Callable[[int, int, str], None] = progress
    return lambda done, total, what: tell(number * total + done, trials * total, f"{label}: {what}")


def _score(
    loaded: Loaded, trial: _Trial, out: Path, workers: int, progress: Progress | None
) -> dict[str, Scoring]:
    """Name of a site, or "" for all of them → scores of its patients."""
    variants = methods(loaded.benchmark, trial.seed)
    plan, judged = trial.plan, (loaded.benchmark.task, loaded.benchmark.metric)
    trained = train_variants(variants, plan, loaded.topology, out, workers, progress)
    selected = select_by_inner_folds(
        decays(trial.seed),
        plan,
        loaded.topology,
        out,
        arm=CHOSEN,
        judged=judged,
        inner_folds=INNER_FOLDS,
        inner_seed=loaded.study.study.seed - 1,  # of no partition
        workers=workers,
    )
    predictions = pd.concat([trained, selected.rows], ignore_index=True)
    follow_up = {f.name: Censoring(*training_follow_up(plan.cohort, plan.held_out(f))) for f in plan.folds}
    parts = {"": predictions, **{str(site): rows for site, rows in predictions.groupby("site", sort=True)}}
    return {name: Scoring(loaded.study, rows, follow_up) for name, rows in parts.items()}


def _figures(loaded: Loaded, trials: Sequence[Mapping[str, Scoring]]) -> Iterator[Figures]:
    """Figures of every method over the trials of a protocol."""
    if not trials:
        return
    task, metric = loaded.benchmark.task, loaded.benchmark.metric
    for method in method_names(loaded.benchmark):
        every = [trial[""].estimates(method)[task][metric] for trial in trials]
        values = [e.estimate for e in every if e.estimate is not None]
        against = [trial[""].differences(method, REFERENCE, task)[metric] for trial in trials]
        names = sorted({name for trial in trials for name in trial} - {""})
        sites = {
            name: {which: _of_site(trials, name, method, task, which) for which in (metric, IBS)}
            for name in names
        }
        yield Figures(
            method,
            mean_of(every),
            float(np.std(values, ddof=1)) if len(values) > 1 else None,
            _mean([site[metric] for site in sites.values()]),
            _mean([site[IBS] for site in sites.values()]),
            sites,
            mean_of(against),
        )


def _of_site(
    trials: Sequence[Mapping[str, Scoring]], site: str, method: str, task: str, metric: str
) -> float | None:
    """Mean over trials and folds of a figure within one site, where it is defined."""
    found: list[float | None] = []
    for trial in trials:
        found += trial[site].per_fold(method).get(task, {}).get(metric, {}).values()
    return _mean(found)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of estimates and of their bounds; None where one is not defined."""

    def mean(values: Sequence[float | None]) -> float | None:
        return _mean(values) if None not in values else None

    return replace(
        estimates[0],
        estimate=mean([e.estimate for e in estimates]),
        low=mean([e.low for e in estimates]),
        high=mean([e.high for e in estimates]),
    )
