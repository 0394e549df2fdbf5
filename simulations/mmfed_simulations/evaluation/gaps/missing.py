"""What missing modalities cost: at test, with every subset of them; in training, with gaps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mmfed_client.cohort import Cohort
from mmfed_common.contract import Contract
from mmfed_common.durable import write_durably
from mmfed_common.errors import StudyError
from mmfed_common.metrics import Censoring, Estimate
from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_simulations.evaluation.arm_names import SINGLE_PREFIX
from mmfed_simulations.evaluation.folds import FoldPlan, FoldRule, plan_folds, training_follow_up, usual_rule
from mmfed_simulations.evaluation.gaps.hidden import Hidden, Modalities, joined, subsets
from mmfed_simulations.evaluation.results import without_nan
from mmfed_simulations.evaluation.scores import Scoring
from mmfed_simulations.evaluation.tasks_cache import Progress
from mmfed_simulations.evaluation.tradeoff import METRIC, mean_estimate
from mmfed_simulations.evaluation.variants import Variant, as_is, shown_name, train_variants

OMICS = ("gene", "protein", "metabolite")
SHARES = (0.2, 0.4, 0.6)
Against = Literal["every", "omics", "none"]
"""Which subsets get a model of their own to be compared with: every one, the one without omics, none."""
FEDERATED = "federated"


@dataclass(frozen=True)
class MissingRow:
    """One subset of the modalities at test, in one task; plain figures, ready for JSON.

    Attributes
    ----------
    shown
        What the held-out patients were predicted with; everything else was hidden.
    task, metric
        Which figure.
    figure
        Of the model that was trained on everything.
    only, cost
        Of the same model trained on these modalities alone, and what it is better by, paired on the same
        patients; None where that model was not trained.
    training
        One entry for each share of training patients without a modality: ``share``, ``figure``, and
        ``cost``, what training without gaps is better by, both means over the draws, bounds too; and
        ``spread``, the standard deviation of the cost over the draws, None for one.
    """

    shown: Modalities
    task: str
    metric: str
    figure: dict[str, Any]
    only: dict[str, Any] | None
    cost: dict[str, Any] | None
    training: list[dict[str, Any]]


def missing(
    study: Study,
    cohort: Cohort,
    topology: Topology,
    out: Path,
    *,
    shares: Sequence[float] = SHARES,
    draws: int = 1,
    against: Against = "every",
    folds: FoldRule | None = None,
    workers: int = 2,
    progress: Progress | None = None,
    files: Path | None = None,
) -> dict[str, Any]:
    """Train the federation with and without gaps, and predict with every subset of the modalities.

    A training patient loses each modality but the clinical one by a hash of seed, patient and modality; a
    held-out patient keeps all in training, and is then predicted once with each subset.

    Parameters
    ----------
    study, cohort, topology
        As for a comparison; the study's held-out rule is replaced by the folds.
    out
        Finished trainings are kept in ``out/cache``: the same call goes on after an interruption.
        ``missing.json`` is written there.
    shares
        Shares of the training patients that lose each modality, between 0 and 1.
    draws
        How often each share is trained, each time with other patients who lose.
    against
        Which subsets are also trained alone.
    files
        Where the files lie that the study names, such as the bundle that it starts from.

    Returns
    -------
    What ``missing.json`` holds: ``study``, ``held_out``, ``bootstrap``, ``modalities`` (each with the
    patients who have it), ``without_omics`` (a subset, or None), ``shares``, ``draws`` and ``rows``, see
    :class:`MissingRow`.

    Raises
    ------
    MmfedError
        Whatever stops a training; ``MMF-507`` for folds that cannot be made, ``MMF-514`` for a study with
        one modality.
    """
    if len(study.contract.node_types) < 2:
        raise StudyError("MMF-514", f"the study has {', '.join(study.contract.node_types)} only")
    plan = plan_folds(study, cohort, folds or usual_rule(cohort))
    every = subsets(study.contract.node_types)
    alone = _alone(study.contract, every, against)
    variants = {only_name(one): Variant(only_name(one), as_is) for one in alone}
    for share, draw in [(0.0, 0), *((share, draw) for share in shares for draw in range(draws))]:
        variants[trained_name(share, draw)] = with_gaps(every, share, draw)
    predictions = train_variants(variants, plan, topology, out, workers, progress, files)
    found = {
        "study": {"name": study.study.name, "hash": study.hash, "seed": study.study.seed},
        "held_out": plan.statement,
        "bootstrap": study.evaluation.bootstrap,
        "modalities": [_coverage(cohort, name) for name in study.contract.node_types],
        "without_omics": without_omics(study.contract.node_types),
        "shares": list(shares),
        "draws": draws,
        "rows": [vars(row) for row in _rows(_scoring(study, plan, predictions), shares, draws, alone)],
    }
    plain: dict[str, Any] = without_nan(json.loads(json.dumps(found)))
    write_durably(out / "missing.json", json.dumps(plain, indent=1).encode())
    return plain


def with_gaps(shown: Sequence[Modalities], share: float, draw: int = 0) -> Variant:
    """The federation with such a share of the training patients without each modality, shown these sets."""
    return Variant(FEDERATED, as_is, Hidden(share, tuple(shown), draw))


def trained_name(share: float, draw: int = 0) -> str:
    """Name of the federation with such a share of the training patients without each modality."""
    return f"{FEDERATED}, {share:.10g} missing, draw {draw}"


def only_name(shown: Modalities) -> str:
    """Name, and arm, of the federation on these modalities alone."""
    return SINGLE_PREFIX + joined(shown)


def without_omics(names: Modalities) -> Modalities | None:
    """What is left without genes, proteins and metabolites; None if that is nothing, or everything."""
    left = tuple(name for name in names if name not in OMICS)
    return left if left and left != names else None


def _alone(contract: Contract, every: Sequence[Modalities], against: Against) -> list[Modalities]:
    if against == "every":
        return [one for one in every if one != contract.node_types]
    left = without_omics(contract.node_types)
    return [] if against == "none" or left is None else [left]


def _coverage(cohort: Cohort, name: str) -> dict[str, Any]:
    has = cohort.patients.nodes[name].has_modality()
    return {"name": name, "patients": int(has.sum()), "of": len(has)}


def _scoring(study: Study, plan: FoldPlan, predictions: pd.DataFrame) -> Scoring:
    follow_up = {f.name: Censoring(*training_follow_up(plan.cohort, plan.held_out(f))) for f in plan.folds}
    return Scoring(study, predictions, follow_up)


def _rows(
    scoring: Scoring, shares: Sequence[float], draws: int, alone: Sequence[Modalities]
) -> Iterator[MissingRow]:
    contract = scoring.study.contract
    estimates = {arm: scoring.estimates(arm) for arm in scoring.arms}
    for task in contract.tasks:
        metric = METRIC[task]
        for shown in subsets(contract.node_types):
            whole = shown_name(trained_name(0.0), shown)
            if task not in estimates[whole]:
                continue  # no held-out patient has this outcome
            only = None
            cost = None
            if shown in alone:
                only = estimates[only_name(shown)][task][metric].as_dict()
                cost = scoring.differences(only_name(shown), whole, task)[metric].as_dict()
            training = []
            for share in shares:
                names = [shown_name(trained_name(share, draw), shown) for draw in range(draws)]
                figures = [estimates[name][task][metric] for name in names]
                costs = [scoring.differences(whole, name, task)[metric] for name in names]
                training.append(_entry(share, figures, costs))
            figure = estimates[whole][task][metric].as_dict()
            yield MissingRow(shown, task, metric, figure, only, cost, training)


def _entry(share: float, figures: Sequence[Estimate], costs: Sequence[Estimate]) -> dict[str, Any]:
    """What a share cost, over its draws."""
    values = [cost.estimate for cost in costs if cost.estimate is not None]
    return {
        "share": share,
        "figure": mean_estimate(figures).as_dict(),
        "cost": mean_estimate(costs).as_dict(),
        "spread": float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }
