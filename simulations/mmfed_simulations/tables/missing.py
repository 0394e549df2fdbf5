"""What missing modalities cost: a row for each set of modalities that is shown at test, in each cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from mmfed_common.metrics import Estimate
from mmfed_simulations.evaluation.arm_names import MODALITIES
from mmfed_simulations.evaluation.folds import FoldPlan, plan_folds
from mmfed_simulations.evaluation.gaps.hidden import Modalities, subsets
from mmfed_simulations.evaluation.gaps.missing import only_name, trained_name, with_gaps, without_omics
from mmfed_simulations.evaluation.gaps.table import shown_label
from mmfed_simulations.evaluation.tasks_cache import cohort_digest
from mmfed_simulations.evaluation.variants import Variant, as_is, shown_name, train_variants
from mmfed_simulations.tables.across import Difference, mean_difference
from mmfed_simulations.tables.cohorts import COHORTS, WITHOUT_IMAGING
from mmfed_simulations.tables.markdown import figure, grid, write_page
from mmfed_simulations.tables.rows import RowResult, score_row
from mmfed_simulations.tables.table import Workshop

ONLY = "trained on these alone"
DRAWS: Mapping[float, int] = {0.2: 1, 0.4: 1, 0.6: 3}
"""Share of gaps in training → how often it is drawn who loses what; more often where an aim is judged."""
LARGEST = max(DRAWS)
OMICS_AIM, TRAINING_AIM = 0.015, 0.01
"""What omics that are absent at test, and the largest share of gaps in training, may cost in C-index."""


def modalities_of(cohort: str) -> Modalities:
    """The modalities of a TCGA cohort's study."""
    every = ("clinical_feature", "gene", "imaging_feature")
    return every[:-1] if cohort in WITHOUT_IMAGING else every


def _word(shown: Modalities) -> str:
    return "+".join(MODALITIES[name] for name in shown)


def _gap(share: float) -> str:
    return f"{share:.0%} missing in training"


class Missing:
    """``docs/results/missing.md``."""

    name = "missing"

    @property
    def rows(self) -> Sequence[str]:
        """Every set of modalities in every cohort."""
        return [f"{cohort}/{_word(shown)}" for cohort in COHORTS for shown in subsets(modalities_of(cohort))]

    def make(self, workshop: Workshop, row: str) -> RowResult:
        """Train without and with gaps, and on the set alone; predict the held-out patients with the set."""
        cohort, _, word = row.partition("/")
        loaded = workshop.places.tcga(cohort)
        every = subsets(loaded.study.contract.node_types)
        (shown,) = (one for one in every if _word(one) == word)
        plan = plan_folds(loaded.study, loaded.cohort, "cohort")
        folder = workshop.places.work / self.name / cohort

        def make() -> RowResult:
            rows: dict[str, pd.DataFrame] = {}
            for name, variant in _variants(shown, every).items():
                workshop.tell(f"{cohort}, {shown_label(shown)}: {name}")
                found = train_variants({name: variant}, plan, loaded.topology, folder, workshop.workers)
                arm = shown_name(name, shown) if variant.hidden.shown else name
                rows[name] = found[found["arm"] == arm]
            return score_row(plan, plan.folds[0].study, trained_name(0.0), rows, _facts(plan, shown))

        made_of = {
            "data": cohort_digest(loaded.cohort),
            "study": loaded.study.hash,
            "draws": list(DRAWS.items()),
        }
        return workshop.cache.get(f"{self.name}/{row}", made_of, make)

    def page(self, found: Mapping[str, RowResult]) -> str:
        """What was aimed at, over the cohorts; then a table a cohort."""
        parts = []
        for cohort in COHORTS:
            sets = subsets(modalities_of(cohort))
            mine = {one: found[f"{cohort}/{_word(one)}"] for one in sets if f"{cohort}/{_word(one)}" in found}
            if mine:
                headings = ["shown at test", "patients who have all", "C-index", "cost of hiding the rest"]
                headings += [f"cost of {_gap(share)}" for share in DRAWS]
                table = grid(headings, [_line(one, result) for one, result in mine.items()])
                parts.append({"title": cohort, "table": table})
        return write_page(
            self.name, summary=_summary(found), parts=parts, largest=f"{LARGEST:.0%}", draws=DRAWS[LARGEST]
        )


def _variants(shown: Modalities, every: Sequence[Modalities]) -> dict[str, Variant]:
    """The trainings of a row; those with every set shown are shared by the rows of a cohort."""
    variants = {trained_name(0.0): with_gaps(every, 0.0)}
    for share, count in DRAWS.items():
        variants |= {trained_name(share, k): with_gaps(every, share, k) for k in range(count)}
    if shown != every[0]:
        variants[ONLY] = Variant(only_name(shown), as_is)
    return variants


def _facts(plan: FoldPlan, shown: Modalities) -> dict[str, int]:
    nodes = plan.cohort.patients.nodes
    has = np.all([nodes[name].has_modality().numpy() for name in shown], axis=0)
    return {"patients": int(has.sum())}


def costs(result: RowResult) -> dict[str, Difference]:
    """What a row lost, in C-index: by hiding the rest at test, and by each share of gaps in training."""
    found = {name: tasks["survival"] for name, tasks in result.differences.items()}
    lost = {ONLY: _turned(found[ONLY])} if ONLY in found else {}
    for share, count in DRAWS.items():
        lost[_gap(share)] = _over_draws([found[trained_name(share, k)] for k in range(count)])
    return lost


def _over_draws(parts: Sequence[Difference]) -> Difference:
    """Mean over the draws of who loses what, on the same resampled patients."""
    mean = mean_difference(parts)
    draws = np.mean([one.draws for one in parts], axis=0)
    first = parts[0].estimate
    return Difference(replace(mean, n=first.n, events=first.events), tuple(float(d) for d in draws))


def _turned(one: Difference) -> Difference:
    """The difference the other way round; taken from 0.0, so that no loss is +.000 and not -.000."""
    e = one.estimate
    low, high = (None if bound is None else 0.0 - bound for bound in (e.high, e.low))
    value = None if e.estimate is None else 0.0 - e.estimate
    return Difference(Estimate(value, low, high, e.n, e.events), tuple(0.0 - draw for draw in one.draws))


def _line(shown: Modalities, result: RowResult) -> list[str]:
    lost = costs(result)
    cells = [figure(lost[name].estimate, "+") if name in lost else "" for name in (ONLY, *map(_gap, DRAWS))]
    c_index = figure(result.figures["survival"]["c_index"])
    return [shown_label(shown), str(result.facts["patients"]), c_index, *cells]


def _summary(found: Mapping[str, RowResult]) -> str:
    """The two costs that were aimed at, in each cohort and over them."""
    wanted: dict[str, tuple[float, dict[str, Difference]]] = {
        "omics absent at test, against a model trained without them": (OMICS_AIM, {}),
        f"{_gap(LARGEST)}, against none": (TRAINING_AIM, {}),
    }
    (_, omics), (_, training) = wanted.values()
    for cohort in COHORTS:
        names = modalities_of(cohort)
        left = found.get(f"{cohort}/{_word(without_omics(names) or names)}")
        whole = found.get(f"{cohort}/{_word(names)}")
        if left is not None:
            omics[cohort] = costs(left)[ONLY]
        if whole is not None:
            training[cohort] = costs(whole)[_gap(LARGEST)]
    lines = []
    for name, (aim, by_cohort) in wanted.items():
        each = [figure(by_cohort[c].estimate, "+") if c in by_cohort else "" for c in COHORTS]
        mean = mean_difference(list(by_cohort.values())) if by_cohort else None
        some = f" ({len(by_cohort)} cohorts)" if len(by_cohort) < len(COHORTS) else ""
        lines.append([name, f"at most {aim}", figure(mean, "+") + some, _reached(mean, aim), *each])
    return grid(["cost in C-index", "aim", "mean", "reached", *COHORTS], lines)


def _reached(mean: Estimate | None, aim: float) -> str:
    if mean is None or mean.estimate is None or mean.high is None:
        return "not known"
    if mean.high <= aim:
        return "yes, with its whole interval"
    return "yes; its interval reaches beyond" if mean.estimate <= aim else "no"
