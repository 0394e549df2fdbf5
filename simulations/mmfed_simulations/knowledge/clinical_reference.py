"""What clinical columns are like in public cohorts: the lines with which a study standardises them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmfed_client.cohort import load_cohort, load_description
from mmfed_common.contract import Column
from mmfed_common.graph import build_topology
from mmfed_common.model.clinical import CLINICAL
from mmfed_common.scaling import LEAST_DEVIATION, Moments
from mmfed_common.study import Study
from mmfed_simulations.knowledge.reference import LEAST_PATIENTS

SECTIONS: tuple[Literal["demographics", "clinical"], ...] = ("demographics", "clinical")
Sums = tuple[float, float, float]
"""Of a column: patients with a value, sum of the values, sum of their squares."""
NOBODY: Sums = (0.0, 0.0, 0.0)
NO_FEATURES_BUT_CLINICAL: dict[str, Any] = {
    "gene": None,
    "protein": None,
    "metabolite": None,
    "imaging": None,
    "relations": {"source": "none"},
    "knowledge": None,
}


@dataclass(frozen=True)
class ClinicalReference:
    """Mean and (population) deviation of a column in public cohorts, after its ``transform``.

    Attributes
    ----------
    section
        ``"demographics"`` or ``"clinical"``.
    patients
        How many have a value.
    """

    section: str
    column: str
    mean: float
    deviation: float
    patients: int

    def toml(self) -> str:
        """The two keys under the header of the column's section, which a study has already.

        Both numbers are rounded to a hundredth of the deviation or finer, whatever the mean's size.
        """
        digits = max(0, math.ceil(2 - math.log10(self.deviation)))
        return (
            f"[contract.{self.section}.{self.column}]\n"
            f"reference_mean = {self.mean:.{digits}f}\nreference_deviation = {self.deviation:.{digits}f}\n"
        )


def clinical_references(study: Study, cohorts: Sequence[tuple[Path, Path | None]]) -> list[ClinicalReference]:
    """Mean and deviation of a study's numbers and ordinal columns over all patients of public cohorts.

    A cohort speaks for the columns that its ``cohort.toml`` has. Columns of which fewer than 30 patients
    have a value are left out, and so are those that are the same for everybody.

    Parameters
    ----------
    study
        Its contract says how columns are read.
    cohorts
        Folders with ``cohort.toml``, each with the folder of its tables, if that is another.

    Raises
    ------
    CohortError
        ``MMF-200`` with every fault of a cohort.
    """
    found: dict[str, list[Sums]] = {}
    for folder, data in cohorts:
        for name, sums in _sums(study, folder, data).items():
            found.setdefault(name, []).append(sums)
    references = []
    for section in SECTIONS:
        columns: Mapping[str, Column] = getattr(study.contract, section)
        for name, column in columns.items():
            count, total, square = (math.fsum(part) for part in zip(*found.get(name, [NOBODY]), strict=True))
            if column.kind not in ("number", "ordinal") or count < LEAST_PATIENTS:
                continue
            mean = total / count
            deviation = max(square / count - mean**2, 0.0) ** 0.5
            if deviation >= LEAST_DEVIATION:
                references.append(ClinicalReference(section, name, mean, deviation, int(count)))
    return references


def _sums(study: Study, folder: Path, data: Path | None) -> dict[str, Sums]:
    """Column → sums, of the columns that a cohort has."""
    description = load_description(folder, data)
    there = set(description.demographics.mapping) | set(description.clinical.mapping)
    content = study.contract.model_dump(mode="json")
    kept = {
        section: {name: column for name, column in content[section].items() if name in there}
        for section in SECTIONS
    }
    if not any(kept.values()):
        return {}
    contract = study.with_changes(contract=NO_FEATURES_BUT_CLINICAL | kept).contract
    topology = build_topology(contract, None)
    moments = Moments.of(load_cohort(description, contract, topology, None).patients)
    count, total, square = (
        part[CLINICAL][:, 0].tolist() for part in (moments.count, moments.total, moments.square)
    )
    return {
        name: (count[row], total[row], square[row])
        for row, name in enumerate(topology.nodes[CLINICAL])
        if name in contract.columns
    }
