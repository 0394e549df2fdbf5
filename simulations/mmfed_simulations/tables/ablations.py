"""Methods switched on and off: a row for each, in each cohort, against the row that it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmfed_common.metrics import Estimate
from mmfed_simulations.evaluation.folds import plan_folds
from mmfed_simulations.evaluation.tasks_cache import cohort_digest
from mmfed_simulations.tables.across import mean_difference
from mmfed_simulations.tables.cohorts import COHORTS
from mmfed_simulations.tables.markdown import bold, figure, grid, write_page
from mmfed_simulations.tables.methods import (
    FULL,
    FULL_ROUNDS,
    METHODS,
    OURS,
    PRETRAINING,
    SMALL_MODEL,
    Method,
)
from mmfed_simulations.tables.rows import RowResult, score_row
from mmfed_simulations.tables.table import Workshop
from mmfed_simulations.tables.training import predictions_of


class Ablations:
    """``docs/results/methods.md``."""

    name = "methods"

    @property
    def rows(self) -> Sequence[str]:
        """Every method in every cohort."""
        return [f"{cohort}/{row}" for cohort in COHORTS for row in METHODS]

    def make(self, workshop: Workshop, row: str) -> RowResult:
        """Train a method, and what it is compared with, in every fold of a cohort."""
        cohort, _, name = row.partition("/")
        method = METHODS[name]
        loaded = workshop.places.tcga(cohort)
        plan = plan_folds(loaded.study, loaded.cohort, "cohort")
        folder = workshop.places.work / self.name / cohort
        against = {} if method.against is None else {method.against: METHODS[method.against]}
        wanted: dict[str, Method] = {name: method, **against}

        def make() -> RowResult:
            rows = {}
            for key, one in wanted.items():
                workshop.tell(f"{cohort}: {one.label}")
                rows[key] = predictions_of(one, plan, loaded.topology, folder, workshop.workers)
            return score_row(plan, method.change(plan.folds[0].study), name, rows)

        made_of = {
            "data": cohort_digest(loaded.cohort),
            "methods": {
                key: [one.change(plan.folds[0].study).hash, one.arm, one.shuffled, one.members]
                for key, one in wanted.items()
            },
        }
        return workshop.cache.get(f"{self.name}/{row}", made_of, make)

    def page(self, found: Mapping[str, RowResult]) -> str:
        """One line a method: mean figure, difference, and the difference in each cohort."""
        lines = []
        for name, method in METHODS.items():
            mine = {c: found[f"{c}/{name}"] for c in COHORTS if f"{c}/{name}" in found}
            if mine:
                lines.append(_line(name, method, mine))
        headings = ["method", "mean C-index", "against", "mean difference", "what it says", *COHORTS]
        return write_page(
            self.name,
            table=grid(headings, lines),
            rounds=FULL_ROUNDS,
            sizes=SMALL_MODEL,
            pretraining=PRETRAINING,
        )


def _line(name: str, method: Method, mine: Mapping[str, RowResult]) -> list[str]:
    values = [r.figures["survival"]["c_index"].estimate for r in mine.values()]
    known = [value for value in values if value is not None]
    mean = f"{sum(known) / len(known):.3f}".lstrip("0") if len(known) == len(values) else "–"
    label = bold(method.label) if name in (OURS, FULL) else method.label
    if len(mine) < len(COHORTS):
        label += f" ({', '.join(mine)} only)"
    if method.against is None:
        own = [figure(mine[c].figures["survival"]["c_index"]) if c in mine else "" for c in COHORTS]
        return [label, mean, "", "", "", *own]
    differences = {c: r.differences[method.against]["survival"] for c, r in mine.items()}
    together = mean_difference(list(differences.values()))
    each = [figure(differences[c].estimate, "+") if c in differences else "" for c in COHORTS]
    against = METHODS[method.against].label.split(":")[0].split(" (")[0]
    return [label, mean, against, figure(together, "+"), verdict(together), *each]


def verdict(difference: Estimate) -> str:
    """In words, whether an interval excludes 0."""
    if difference.low is None or difference.high is None:
        return "not known"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no difference seen"
