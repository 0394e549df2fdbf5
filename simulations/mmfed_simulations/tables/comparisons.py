"""Pages that rest on one comparison a cohort: calibration, and the worth for each hospital."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmfed_simulations.evaluation.arm_names import PERSONALISED
from mmfed_simulations.evaluation.calibrating.figures import calibration_figures, calibration_text
from mmfed_simulations.evaluation.compare import compare
from mmfed_simulations.evaluation.hospital.summary import worth_figures, worth_text
from mmfed_simulations.evaluation.tasks_cache import cohort_digest
from mmfed_simulations.tables.cohorts import COHORTS
from mmfed_simulations.tables.markdown import write_page
from mmfed_simulations.tables.rows import RowResult
from mmfed_simulations.tables.table import Workshop

ARMS = ("federated", "local", PERSONALISED, "cox_clinical", "ridge_all")
"""What is compared in each cohort, for all of these pages together: nothing is trained twice."""

Results = Mapping[str, Mapping[str, Any]]
"""Cohort → what was kept of its ``results.json``."""


@dataclass(frozen=True)
class Comparisons:
    """One page of what comparisons say.

    Attributes
    ----------
    name
        Of the page.
    kept
        Keys of ``results.json`` that the page needs, besides ``study``.
    text
        Makes Markdown of what was kept.
    """

    name: str
    kept: tuple[str, ...]
    text: Callable[[Results], str]

    @property
    def rows(self) -> Sequence[str]:
        """One a cohort."""
        return COHORTS

    def make(self, workshop: Workshop, row: str) -> RowResult:
        """Compare the arms in every fold of a cohort, and keep what the page needs."""
        loaded = workshop.places.tcga(row)
        out = workshop.places.work / "comparisons" / row

        def make() -> RowResult:
            """Keep what the page needs; the comparison itself is found in its folder if it was made."""
            workshop.tell(f"{row}: comparison")
            found = compare(
                loaded.study,
                loaded.cohort,
                loaded.topology,
                out,
                arms=ARMS,
                folds="cohort",
                workers=workshop.workers,
            )
            results = found.results
            facts = {key: results[key] for key in ("study", *self.kept)}
            return RowResult(loaded.study.hash, {}, {}, facts)

        made_of = {"data": cohort_digest(loaded.cohort), "study": loaded.study.hash, "kept": self.kept}
        return workshop.cache.get(f"{self.name}/{row}", made_of, make)

    def page(self, found: Mapping[str, RowResult]) -> str:
        """The page, of the cohorts that are there."""
        kept = {cohort: found[cohort].facts for cohort in COHORTS if cohort in found}
        return write_page(self.name, text=self.text(kept))


CALIBRATION = Comparisons(
    "calibration",
    ("calibration", "temperature"),
    lambda results: calibration_text(calibration_figures(results)),
)
HOSPITAL = Comparisons("hospital", ("worth",), lambda results: worth_text(worth_figures(results)))
