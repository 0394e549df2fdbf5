"""Fresh partitions: the study and the Cox models on ten other splits of the same patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mmfed_common.heldout import hash_folds
from mmfed_common.metrics import Estimate
from mmfed_common.metrics.estimate import HIGH, LOW
from mmfed_simulations.consortium import LoadedConsortium
from mmfed_simulations.evaluation.folds import FoldPlan, plan_folds
from mmfed_simulations.evaluation.tasks_cache import cohort_digest
from mmfed_simulations.evaluation.variants import Variant, as_is, train_variants
from mmfed_simulations.tables.across import Difference, mean_difference
from mmfed_simulations.tables.cohorts import COHORTS
from mmfed_simulations.tables.field import REFERENCES
from mmfed_simulations.tables.markdown import figure, grid, number, write_page
from mmfed_simulations.tables.rows import RowResult, score_row
from mmfed_simulations.tables.table import Workshop

NUMBER = 10
"""Partitions of each cohort, after that of its fold column."""
ARM = "pooled"
"""The study's model, trained pooled: the same figures as the federation's, at a third of the cost."""


class Partitions:
    """``docs/results/partitions.md``."""

    name = "partitions"

    @property
    def rows(self) -> Sequence[str]:
        """Every partition of every cohort."""
        return [f"{cohort}/{number}" for cohort in COHORTS for number in range(1, NUMBER + 1)]

    def make(self, workshop: Workshop, row: str) -> RowResult:
        """Train the study and both Cox models in every fold of one partition."""
        cohort, _, number = row.partition("/")
        loaded = workshop.places.tcga(cohort)
        plan = fresh_partition(loaded, int(number))
        folder = workshop.places.work / self.name / cohort

        def make() -> RowResult:
            workshop.tell(f"{cohort}, partition {number}")
            variants = {arm: Variant(arm, as_is) for arm in (ARM, *REFERENCES)}
            found = train_variants(variants, plan, loaded.topology, folder, workshop.workers)
            rows = {arm: found[found["arm"] == arm] for arm in variants}
            return score_row(plan, plan.folds[0].study, ARM, rows)

        made_of = {"data": cohort_digest(loaded.cohort), "study": loaded.study.hash, "partition": number}
        return workshop.cache.get(f"{self.name}/{row}", made_of, make)

    def page(self, found: Mapping[str, RowResult]) -> str:
        """One line a cohort: means over its partitions."""
        lines, every = [], []
        for cohort in COHORTS:
            mine = [result for name, result in found.items() if name.startswith(f"{cohort}/")]
            if mine:
                over = {other: [r.differences[other]["survival"] for r in mine] for other in REFERENCES}
                every.append({other: _mean_of_partitions(each) for other, each in over.items()})
                values = [_known(r.figures["survival"]["c_index"]) for r in mine]
                mean = number(sum(values) / len(values))
                spread = f"{number(min(values))} – {number(max(values))}"
                cells = [figure(every[-1][other].estimate, "+") for other in REFERENCES]
                lines.append([cohort, str(len(mine)), mean, spread, *cells])
        if len(every) == len(COHORTS):
            cells = [figure(mean_difference([one[other] for one in every]), "+") for other in REFERENCES]
            lines.append(["mean of the cohorts", "", "", "", *cells])
        headings = ["cohort", "partitions", "C-index", "least – most", "− Cox, clinical", "− ridge Cox"]
        return write_page(self.name, table=grid(headings, lines), number=NUMBER)


def fresh_partition(loaded: LoadedConsortium, number: int) -> FoldPlan:
    """As many folds as the study has, by another hash of the patient id for each number."""
    count = loaded.study.evaluation.folds
    seed = loaded.study.study.seed + number
    folds = hash_folds(seed, loaded.cohort.patients.patient_ids, count)
    return plan_folds(loaded.study, replace(loaded.cohort, folds=folds), "cohort")


def _mean_of_partitions(found: Sequence[Difference]) -> Difference:
    """Mean over partitions of the same patients, quantile by quantile.

    The partitions hold the same patients, so that their mean is about as uncertain as one of them: an
    interval is the mean of their intervals. Resamples stay in the order of the first partition's, which is
    by chance, so that those of different cohorts can be put together.
    """
    draws = np.array([one.draws for one in found])
    order = np.argsort(np.argsort(draws[0]))
    mean = np.sort(draws, axis=1).mean(axis=0)
    first = found[0].estimate
    low, high = np.percentile(mean, [LOW, HIGH])
    value = float(np.mean([_known(one.estimate) for one in found]))
    estimate = Estimate(value, float(low), float(high), first.n, first.events)
    return Difference(estimate, tuple(float(draw) for draw in mean[order]))


def _known(estimate: Estimate) -> float:
    """The value; every partition of these cohorts has deaths in every fold."""
    if estimate.estimate is None:
        raise ValueError("a partition has a fold in which nothing can be ranked")
    return estimate.estimate
