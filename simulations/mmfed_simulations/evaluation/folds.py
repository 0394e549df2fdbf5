"""The folds of a comparison: which patients are held out in each, and the study that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmfed_client.cohort import Cohort
from mmfed_common.errors import StudyError
from mmfed_common.heldout import hash_folds
from mmfed_common.study import Study

FoldRule = Literal["cohort", "random", "leave-site-out"]
LEAST_EVENTS = 2


@dataclass(frozen=True)
class Fold:
    """One fold: its name and the study whose held-out rule makes it."""

    name: str
    study: Study = field(hash=False)


@dataclass(frozen=True)
class FoldPlan:
    """All folds of a comparison.

    Attributes
    ----------
    cohort
        The cohort, with the folds that are used.
    folds
        The folds, in order.
    statement
        One sentence for the report.
    notes
        What a reader must know besides.
    """

    cohort: Cohort
    folds: tuple[Fold, ...]
    statement: str
    notes: tuple[str, ...] = ()

    @property
    def everybody(self) -> Fold:
        """Nobody held out: what the released model is trained on."""
        study = self.folds[0].study.with_changes(evaluation={"rule": "none", "fold": 0, "sites": ()})
        return Fold("everybody", study)

    def held_out(self, fold: Fold) -> npt.NDArray[np.bool_]:
        """``(patients,)`` who is held out, in the cohort's order."""
        rule = fold.study.held_out_rule
        marks = np.zeros(len(self.cohort.patients), dtype=np.bool_)
        sites = np.array(self.cohort.sites)
        for site in sorted(set(self.cohort.sites)):
            rows = np.flatnonzero(sites == site)
            folds = None if self.cohort.folds is None else [self.cohort.folds[i] for i in rows]
            marks[rows] = rule.held_out([self.cohort.patients.patient_ids[i] for i in rows], site, folds)
        return marks


def usual_rule(cohort: Cohort) -> FoldRule:
    """The cohort's own folds where it has them, else random ones."""
    return "random" if cohort.folds is None else "cohort"


def plan_folds(study: Study, cohort: Cohort, rule: FoldRule, seed: int | None = None) -> FoldPlan:
    """Lay out the folds.

    ``cohort``: the cohort's own fold column. ``random``: by hash of the patient id, as many as the study's
    ``folds``. ``leave-site-out``: each site that has at least the study's least cell of patients and two
    deaths is held out in turn, while all others train.

    Parameters
    ----------
    seed
        Of the hash; None: the study's.

    Raises
    ------
    StudyError
        ``MMF-507`` when the cohort has no fold column, or too few sites can be left out.
    """
    if rule == "leave-site-out":
        return _leave_site_out(study, cohort)
    count = study.evaluation.folds
    if rule == "cohort":
        if cohort.folds is None:
            raise StudyError("MMF-507", 'folds = "cohort", but the cohort has no fold column')
        count = max(cohort.folds) + 1
        how = "as the cohort's fold column gives them"
    else:
        of_hash = study.study.seed if seed is None else seed
        cohort = replace(cohort, folds=hash_folds(of_hash, cohort.patients.patient_ids, count))
        how = "by hash of the patient id"
    folds = tuple(
        Fold(str(k), study.with_changes(evaluation={"rule": "fold", "folds": count, "fold": k, "sites": ()}))
        for k in range(count)
    )
    statement = (
        f"{count} folds, {how}: every patient was held out once and scored by a model that never saw them."
    )
    return FoldPlan(cohort, folds, statement)


def _leave_site_out(study: Study, cohort: Cohort) -> FoldPlan:
    large = [name for name, part in cohort.by_site().items() if _enough(part, study.evaluation.minimum_cell)]
    if len(large) < 2:
        raise StudyError(
            "MMF-507", f"{len(large)} site(s) have enough patients and deaths to be left out; two are needed"
        )
    folds = tuple(
        Fold(name, study.with_changes(evaluation={"rule": "site", "sites": (name,)})) for name in large
    )
    small = sorted(set(cohort.sites) - set(large))
    statement = (
        f"{len(large)} sites were left out in turn: their patients were scored by a model that no patient of "
        "that site trained. Figures are means over the sites left out, not pooled figures."
    )
    notes = (f"Too small to be left out, they only trained: {', '.join(small)}.",) if small else ()
    return FoldPlan(cohort, folds, statement, notes)


def _enough(part: Cohort, least: int) -> bool:
    outcomes = part.patients.outcomes
    events = outcomes.event[outcomes.survival_known].sum()
    return len(part.patients) >= least and float(events) >= LEAST_EVENTS


def training_follow_up(
    cohort: Cohort, held_out: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Follow-up in days and event of the training patients whose survival is known."""
    outcomes = cohort.patients.outcomes
    rows = ~held_out & outcomes.survival_known.numpy().astype(bool)
    return outcomes.time_days.double().numpy()[rows], outcomes.event.numpy()[rows] == 1


def site_names(cohort: Cohort, rows: Sequence[int] | npt.NDArray[np.int64]) -> list[str]:
    """Site of some patients."""
    return [cohort.sites[int(i)] for i in rows]
