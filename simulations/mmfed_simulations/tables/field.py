"""The table of the field: our model, single modalities, fusions and Cox models on the same patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mmfed_simulations.consortium import LoadedConsortium
from mmfed_simulations.evaluation.arm_names import SINGLE_PREFIX, label
from mmfed_simulations.evaluation.folds import FoldPlan, FoldRule, plan_folds
from mmfed_simulations.evaluation.late_fusion import fused_arms
from mmfed_simulations.evaluation.nested import select_by_inner_folds
from mmfed_simulations.evaluation.tasks_cache import cohort_digest
from mmfed_simulations.evaluation.variants import Variant, as_is, train_results, train_variants
from mmfed_simulations.tables.across import Difference, mean_difference
from mmfed_simulations.tables.choice import SETTINGS, candidates
from mmfed_simulations.tables.cohorts import COHORTS, WITHOUT_IMAGING
from mmfed_simulations.tables.markdown import bold, figure, grid, write_page
from mmfed_simulations.tables.rows import RowResult, score_row
from mmfed_simulations.tables.table import Workshop

RULES: Mapping[str, FoldRule] = {"cv": "cohort", "sites": "leave-site-out"}
"""First word of a row → its folds."""
REFERENCES = ("cox_clinical", "ridge_all")
CHOSEN = "chosen"
WITH_PROTEINS, ONLY_PROTEINS = "with_proteins", SINGLE_PREFIX + "protein"
"""Rows of a study that reads proteins too, which the studies of these cohorts leave out."""
SINGLES = tuple(SINGLE_PREFIX + name for name in ("clinical_feature", "gene", "imaging_feature"))
ARMS: Mapping[str, tuple[str, ...]] = {
    "cv": (
        "federated",
        CHOSEN,
        "pooled",
        "local",
        *REFERENCES,
        "cox_expression",
        *SINGLES,
        ONLY_PROTEINS,
        WITH_PROTEINS,
        "late_fusion",
        "attention_fusion",
    ),
    "sites": ("federated", CHOSEN, "pooled", *REFERENCES, *SINGLES, "late_fusion"),
}
TITLES = {
    "cv": "Folds of the cohort (`cv_fold`)",
    "sites": "Leave-site-out: every large enough site is predicted by a model that no patient of it trained",
}


class Field:
    """``docs/results/field.md``."""

    name = "field"

    @property
    def rows(self) -> Sequence[str]:
        """Every arm in every cohort, for both kinds of folds."""
        return [
            f"{cohort}/{rule}/{arm}"
            for cohort in COHORTS
            for rule, arms in ARMS.items()
            for arm in arms
            if not (arm == SINGLES[-1] and cohort in WITHOUT_IMAGING)
        ]

    def make(self, workshop: Workshop, row: str) -> RowResult:
        """Train an arm and both references in every fold of a cohort."""
        cohort, rule, arm = row.split("/")
        proteins = arm in (WITH_PROTEINS, ONLY_PROTEINS)
        loaded = workshop.places.with_proteins(cohort) if proteins else workshop.places.tcga(cohort)
        plan = plan_folds(loaded.study, loaded.cohort, RULES[rule])
        folder = workshop.places.work / self.name / cohort
        facts: dict[str, object] = {"folds": len(plan.folds)}

        def make() -> RowResult:
            rows = {}
            for name in (arm, *(other for other in REFERENCES if other != arm)):
                workshop.tell(f"{cohort}, {rule}: {_name(name)}")
                rows[name] = _rows(name, plan, loaded, folder, workshop.workers, facts)
            return score_row(plan, plan.folds[0].study, arm, rows, facts)

        made_of = {
            "data": cohort_digest(loaded.cohort),
            "study": loaded.study.hash,
            "settings": {name: change(loaded.study).hash for name, change in SETTINGS.items()},
        }
        return workshop.cache.get(f"{self.name}/{row}", made_of, make)

    def page(self, found: Mapping[str, RowResult]) -> str:
        """One table for each kind of folds."""
        parts = []
        for rule, arms in ARMS.items():
            lines = [line for arm in arms if (line := _line(rule, arm, found))]
            if lines:
                headings = ["arm", "mean", "− Cox, clinical", "− ridge Cox", *COHORTS]
                table = grid(headings, lines)
                parts.append({"title": TITLES[rule], "table": table, "choices": _choices(rule, found)})
        return write_page(
            self.name,
            parts=parts,
            settings=list(SETTINGS),
            federated=label("federated"),
            chosen=_name(CHOSEN),
        )


def _rows(
    arm: str,
    plan: FoldPlan,
    loaded: LoadedConsortium,
    folder: Path,
    workers: int,
    facts: dict[str, object],
) -> pd.DataFrame:
    if arm == CHOSEN:
        selected = select_by_inner_folds(
            candidates(), plan, loaded.topology, folder, arm=CHOSEN, workers=workers
        )
        facts |= {"chosen": selected.chosen, "inner": selected.inner}
        return selected.rows
    if arm == "late_fusion":
        return _fused(plan, loaded, folder, workers)
    trained = "federated" if arm == WITH_PROTEINS else arm
    return train_variants({arm: Variant(trained, as_is)}, plan, loaded.topology, folder, workers)


def _fused(plan: FoldPlan, loaded: LoadedConsortium, folder: Path, workers: int) -> pd.DataFrame:
    arms = [SINGLE_PREFIX + name for name in loaded.study.contract.node_types]
    variants = {arm: Variant(arm, as_is) for arm in arms}
    results = train_results(variants, plan, loaded.topology, folder, workers)
    patients = plan.cohort.patients
    parts = [fused_arms({arm: results[arm][fold] for arm in arms}, patients) for fold in plan.folds]
    return pd.concat(parts, ignore_index=True)


def _name(arm: str) -> str:
    special = {CHOSEN: "Chosen in inner folds", WITH_PROTEINS: "Federated, with proteins"}
    return special.get(arm, label(arm))


def _line(rule: str, arm: str, found: Mapping[str, RowResult]) -> list[str]:
    mine = {c: found[f"{c}/{rule}/{arm}"] for c in COHORTS if f"{c}/{rule}/{arm}" in found}
    if not mine:
        return []
    figures = {c: result.figures["survival"]["c_index"] for c, result in mine.items()}
    values = [f.estimate for f in figures.values() if f.estimate is not None]
    whole = len(values) == len(COHORTS)
    mean = f"{sum(values) / len(values):.3f}".lstrip("0") if whole else ""
    against = [_mean_against(other, mine) if whole and arm != other else "" for other in REFERENCES]
    name = bold(_name(arm)) if arm in ("federated", CHOSEN) else _name(arm)
    return [name, mean, *against, *(figure(figures.get(c)) if c in figures else "" for c in COHORTS)]


def _mean_against(other: str, mine: Mapping[str, RowResult]) -> str:
    found: list[Difference] = [result.differences[other]["survival"] for result in mine.values()]
    return figure(mean_difference(found), "+")


def _choices(rule: str, found: Mapping[str, RowResult]) -> list[str]:
    """What inner folds chose, one line a cohort."""
    lines = []
    for cohort in COHORTS:
        result = found.get(f"{cohort}/{rule}/{CHOSEN}")
        if result is not None:
            taken = list(result.facts["chosen"].values())
            counts = ", ".join(f"{taken.count(name)} × {name}" for name in SETTINGS if name in taken)
            lines.append(f"{cohort}: {counts}")
    return lines
