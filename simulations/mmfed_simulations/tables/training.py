"""Training one method in the folds of a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_simulations.evaluation.folds import FoldPlan
from mmfed_simulations.evaluation.tasks_cache import Progress
from mmfed_simulations.evaluation.variants import Variant, train_variants
from mmfed_simulations.tables.controls import shuffled_genes
from mmfed_simulations.tables.methods import Method

SHUFFLE_SEED = 1


def predictions_of(
    method: Method,
    plan: FoldPlan,
    topology: Topology,
    folder: Path,
    workers: int = 2,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Train a method in every fold and give the rows of the table of predictions, of all members' mean.

    Finished trainings are kept in ``folder``.

    Raises
    ------
    MmfedError
        Whatever stops a training.
    """
    graph, place = topology, folder
    if method.shuffled:
        graph, place = shuffled_genes(topology, SHUFFLE_SEED), folder / f"shuffled-{SHUFFLE_SEED}"
    members = {f"member {k}": Variant(method.arm, partial(_seeded, method, k)) for k in range(method.members)}
    rows = train_variants(members, plan, graph, place, workers, progress)
    return averaged([group for _, group in rows.groupby("arm", sort=False)])


def averaged(members: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean of several models' predictions of the same patients: of risks, and of probabilities."""
    first, *others = [
        rows.sort_values(["fold", "patient_id"], kind="stable").reset_index(drop=True) for rows in members
    ]
    if not others:
        return first
    predicted = [c for c in first.columns if c == "risk_score" or _probability(str(c))]
    total = first[predicted].astype(float)
    for rows in others:
        if not rows["patient_id"].equals(first["patient_id"]):
            raise ValueError("the members scored different patients")
        total = total + rows[predicted].astype(float)
    return first.assign(**{name: total[name] / len(members) for name in predicted})


def _probability(column: str) -> bool:
    starts = ("survival_", "response_", "toxicity_")
    return column.startswith(starts) and "_true" not in column


def _seeded(method: Method, member: int, study: Study) -> Study:
    """A method's study, with another seed for each member."""
    changed = method.change(study)
    return changed.with_changes(study={"seed": changed.study.seed + member})
