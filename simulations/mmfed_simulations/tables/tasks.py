"""Several outcomes at once against one at a time: survival, response and toxicity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmfed_common.study import Study
from mmfed_simulations.evaluation.arm_names import SINGLE_PREFIX, label
from mmfed_simulations.evaluation.folds import plan_folds, usual_rule
from mmfed_simulations.evaluation.tasks_cache import cohort_digest
from mmfed_simulations.evaluation.variants import Variant, as_is, train_variants
from mmfed_simulations.tables.cohorts import SYNTHETIC, WITH_RESPONSE
from mmfed_simulations.tables.markdown import bold, figure, grid, write_page
from mmfed_simulations.tables.methods import Change
from mmfed_simulations.tables.rows import METRIC, RowResult, score_row
from mmfed_simulations.tables.table import Workshop

COHORTS = (*WITH_RESPONSE, SYNTHETIC)
TASKS = ("survival", "response", "toxicity")
TOGETHER = "together"
ALONE = "alone"
"""Each outcome by a model of its own."""
BASELINES = ("cox_clinical", "logistic_clinical")
SINGLES = tuple(SINGLE_PREFIX + n for n in ("clinical_feature", "gene", "protein", "imaging_feature"))
SHOWN: Mapping[str, tuple[str, ...]] = {
    "survival": ("c_index",),
    "response": ("auroc", "accuracy", "balanced_accuracy"),
    "toxicity": ("auroc_macro",),
}
HEADINGS: Mapping[str, str] = {
    "c_index": "C-index",
    "auroc": "AUROC",
    "auroc_macro": "AUROC, mean of labels",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
}


def only_task(task: str) -> Change:
    """Leave a study one outcome."""

    def changed(study: Study) -> Study:
        gone: dict[str, Any] = {name: None for name in study.contract.tasks if name != task}
        return study.with_changes(contract=gone)

    return changed


class Tasks:
    """``docs/results/tasks.md``."""

    name = "tasks"

    @property
    def rows(self) -> Sequence[str]:
        """All outcomes together, each alone, and the plain models, in every cohort that has several."""
        names = [TOGETHER, ALONE, *BASELINES]
        return [f"{c}/{row}" for c in COHORTS for row in (*names, *(SINGLES if c == SYNTHETIC else ()))]

    def make(self, workshop: Workshop, row: str) -> RowResult:
        """Train a row, and the model of all outcomes together that it is compared with."""
        cohort, _, name = row.partition("/")
        loaded = workshop.places.with_response(cohort)
        plan = plan_folds(loaded.study, loaded.cohort, usual_rule(loaded.cohort))
        folder = workshop.places.work / self.name / cohort

        def make() -> RowResult:
            rows = {}
            for one in dict.fromkeys((name, TOGETHER)):
                workshop.tell(f"{cohort}: {_name(one)}")
                variants = _variants(one, loaded.study)
                found = train_variants(variants, plan, loaded.topology, folder, workshop.workers)
                rows[one] = found
            return score_row(plan, plan.folds[0].study, name, rows)

        made_of = {"data": cohort_digest(loaded.cohort), "study": loaded.study.hash}
        return workshop.cache.get(f"{self.name}/{row}", made_of, make)

    def page(self, found: Mapping[str, RowResult]) -> str:
        """One table an outcome."""
        parts = []
        for task in TASKS:
            lines = [line for row in self.rows if row in found and (line := _line(task, row, found[row]))]
            if lines:
                metrics = [HEADINGS[metric] for metric in SHOWN[task]]
                headings = ["cohort", "model", *metrics, f"{metrics[0]} − together", "n"]
                parts.append({"title": f"{task.capitalize()}", "table": grid(headings, lines)})
        return write_page(self.name, parts=parts)


def _variants(row: str, study: Study) -> dict[str, Variant]:
    if row == TOGETHER:
        return {TOGETHER: Variant("federated", as_is)}
    if row == ALONE:
        return {task: Variant("federated", only_task(task)) for task in study.contract.tasks}
    return {row: Variant("federated" if row == TOGETHER else row, as_is)}


def _name(row: str) -> str:
    return {TOGETHER: "all outcomes together", ALONE: "each outcome by its own model"}.get(row, label(row))


def _line(task: str, row: str, result: RowResult) -> list[str]:
    cohort, _, name = row.partition("/")
    figures = result.figures.get(task)
    if figures is None:
        return []
    shown = [figure(figures.get(metric)) for metric in SHOWN[task]]
    difference = result.differences.get(TOGETHER, {}).get(task)
    text = "" if difference is None else figure(difference.estimate, "+")
    labelled = bold(_name(name)) if name == TOGETHER else _name(name)
    return [cohort, labelled, *shown, text, str(figures[METRIC[task]].n)]
