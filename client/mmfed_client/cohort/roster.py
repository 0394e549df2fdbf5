"""Who the patients are: identifiers, sites and folds of the patient table, and outcomes joined to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmfed_client.cohort.cells import numbers
from mmfed_client.cohort.checks import check, filled_check, identifier_checks, validate
from mmfed_client.cohort.description import CohortDescription
from mmfed_client.cohort.tables import Table
from mmfed_common.errors import Fault

ONE_SITE = "site"
NOBODY = -1


@dataclass(frozen=True)
class Roster:
    """The patients, in the order of the patient table.

    Attributes
    ----------
    patient_ids, sites
        One per patient.
    folds
        One per patient, or ``None`` where the cohort has no fold column.
    """

    patient_ids: tuple[str, ...]
    sites: tuple[str, ...]
    folds: tuple[int, ...] | None

    def __len__(self) -> int:
        return len(self.patient_ids)

    def select(self, index: npt.NDArray[np.int64]) -> Roster:
        """Take some patients."""
        folds = None if self.folds is None else tuple(self.folds[i] for i in index)
        ids, sites = (tuple(column[i] for i in index) for column in (self.patient_ids, self.sites))
        return Roster(ids, sites, folds)

    def rows_of(self, ids: pd.Series) -> npt.NDArray[np.int64]:
        """Give for each row of a table the patient it belongs to, :data:`NOBODY` where it has none."""
        index = {patient: position for position, patient in enumerate(self.patient_ids)}
        return np.array([index.get(i, NOBODY) for i in ids], dtype=np.int64)


def read_roster(description: CohortDescription, table: Table) -> tuple[Roster, list[Fault]]:
    """Read identifiers, sites and folds; rows with an empty or repeated identifier are faults."""
    identity = description.cohort
    wanted = [table.id_column, identity.site_column, identity.fold_column]
    named = [column for column in wanted if column is not None]
    frame = table.cells([column for column in named if column in table.columns])
    checks = {table.id_column: identifier_checks(unique=True)}
    if identity.site_column is not None:
        checks.setdefault(identity.site_column, []).append(filled_check("MMF-223", "has no site"))
    if identity.fold_column is not None:
        whole = check("MMF-223", "is not a whole number from 0 on", _is_fold)
        checks.setdefault(identity.fold_column, []).extend([filled_check("MMF-223", "has no fold"), whole])
    faults = validate(frame, checks, table)
    ids = frame[table.id_column]
    keep = (ids.notna() & ~ids.duplicated()).to_numpy()
    frame = frame[keep]
    sites = [ONE_SITE] * len(frame)
    if identity.site_column in frame.columns:
        sites = [site if site is not None else ONE_SITE for site in frame[identity.site_column]]
    folds = None
    if identity.fold_column in frame.columns:
        number = numbers(frame[identity.fold_column])
        folds = tuple(int(fold) if np.isfinite(fold) else 0 for fold in number)
    return Roster(tuple(frame[table.id_column]), tuple(sites), folds), faults


def _is_fold(column: pd.Series) -> npt.NDArray[np.bool_]:
    values = numbers(column)
    return np.asarray(np.isfinite(values) & (values >= 0) & (np.floor(values) == values))


def aligned(roster: Roster, ids: pd.Series, frame: pd.DataFrame) -> pd.DataFrame:
    """Give the rows of a table in the patients' order, ``None`` for patients that it lacks."""
    rows = np.full(len(roster), NOBODY, dtype=np.int64)
    patients = roster.rows_of(ids)
    known = np.flatnonzero(patients != NOBODY)[::-1]
    rows[patients[known]] = known
    taken = (
        frame.iloc[np.maximum(rows, 0)].reset_index(drop=True)
        if len(frame)
        else frame.reindex(range(len(rows)))
    )
    return taken.where(pd.Series(rows != NOBODY), None).astype(object)


def stray_patients(roster: Roster, ids: pd.Series, table: Table, patient_table: str) -> list[Fault]:
    """Warn of patients of a table that the patient table does not have."""
    unknown = np.flatnonzero((roster.rows_of(ids) == NOBODY) & ids.notna().to_numpy())
    if not unknown.size:
        return []
    what = f"{unknown.size} row(s) belong to patients that {patient_table!r} does not have; they are left out"
    row, count = int(unknown[0]), int(unknown.size)
    return [Fault("MMF-216", what, table.name, row, table.id_column, count, "warning")]


def check_identifiers(ids: pd.Series, table: Table, *, unique: bool) -> list[Fault]:
    """Check the identifier column of a table other than the patient table."""
    column = table.id_column
    return validate(ids.to_frame(column), {column: identifier_checks(unique=unique)}, table)


def by_table(sources: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, str]]:
    """Group ``name → (table, column)`` as ``table → {name: column}``."""
    grouped: dict[str, dict[str, str]] = {}
    for name, (table, column) in sources.items():
        grouped.setdefault(table, {})[name] = column
    return grouped
