"""Survival, response and toxicity: read, checked and brought to days and 0/1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa
import torch

from mmfed_client.cohort.cells import MISSING, UNKNOWN, binary_codes, codes, normal, numbers
from mmfed_client.cohort.checks import number_checks, validate, vocabulary_check
from mmfed_client.cohort.description import (
    Cell,
    CohortDescription,
    OutcomeTables,
    ResponseColumn,
    SurvivalColumns,
    ToxicityColumns,
)
from mmfed_client.cohort.plausibility import DAYS, suspect_event_coding, suspect_unit
from mmfed_client.cohort.roster import Roster, aligned, check_identifiers, stray_patients
from mmfed_client.cohort.tables import Table
from mmfed_common.contract import Contract, Response, Survival, Toxicity
from mmfed_common.errors import DataError, Fault
from mmfed_common.patients import Outcomes

FEW_PATIENTS = 30
"""A site with fewer may well have no event yet; from so many on, it is a mistake in the table."""


@dataclass
class OutcomeArrays:
    """Outcomes of the patients of a roster, as arrays; see :class:`mmfed_common.patients.Outcomes`."""

    time_days: npt.NDArray[np.float64]
    event: npt.NDArray[np.float64]
    survival_known: npt.NDArray[np.bool_]
    response: npt.NDArray[np.int64]
    toxicity: npt.NDArray[np.float64]
    toxicity_known: npt.NDArray[np.bool_]

    @staticmethod
    def unknown(patients: int, labels: int) -> OutcomeArrays:
        """Nothing known of anybody."""
        return OutcomeArrays(
            np.zeros(patients),
            np.zeros(patients),
            np.zeros(patients, dtype=np.bool_),
            np.full(patients, MISSING, dtype=np.int64),
            np.zeros((patients, labels)),
            np.zeros((patients, labels), dtype=np.bool_),
        )

    def any_known(self) -> npt.NDArray[np.bool_]:
        """Tell for each patient whether any outcome is known."""
        return self.survival_known | (self.response >= 0) | self.toxicity_known.any(axis=1)

    def select(self, index: npt.NDArray[np.int64]) -> OutcomeArrays:
        """Take some patients."""
        return OutcomeArrays(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})

    def tensors(self) -> Outcomes:
        """Convert to tensors; times and 0/1 in float32."""
        return Outcomes(
            torch.from_numpy(self.time_days).float(),
            torch.from_numpy(self.event).float(),
            torch.from_numpy(self.survival_known),
            torch.from_numpy(self.response),
            torch.from_numpy(self.toxicity).float(),
            torch.from_numpy(self.toxicity_known),
        )


def outcome_columns(description: CohortDescription) -> dict[str, tuple[str, str]]:
    """Give the outcome columns that cohort.toml names: what they are → (table, column)."""
    o, columns = description.outcome, {}
    if o.survival is not None:
        columns["survival time"] = (o.survival.table, o.survival.time)
        columns["survival event"] = (o.survival.table, o.survival.event)
    if o.response is not None:
        columns["response"] = (o.response.table, o.response.column)
    if o.toxicity is not None:
        columns |= {f"toxicity {n}": (o.toxicity.table, c) for n, c in o.toxicity.mapping.items()}
    return columns


def read_outcomes(
    description: CohortDescription, contract: Contract, tables: Mapping[str, Table], roster: Roster
) -> tuple[OutcomeArrays, list[Fault]]:
    """Read the outcomes that the study and the site both have."""
    labels = contract.toxicity.labels if contract.toxicity else ()
    found = OutcomeArrays.unknown(len(roster), len(labels))
    faults: list[Fault] = []
    offered = description.outcome
    described = [name for name in contract.tasks if getattr(offered, name) is not None]
    if not described:
        what = f"the study trains {', '.join(contract.tasks)}; cohort.toml describes none of them"
        faults.append(Fault("MMF-214", what, column="outcome"))
    for name in described:
        table = tables.get(getattr(offered, name).table)
        if table is not None:
            try:
                joined = _Joined(table, roster, description.patient_table)
                found = _read_one(name, contract, offered, joined, found, faults)
            except DataError as error:
                faults.append(Fault(error.code, error.what, error.where))
    return found, faults


def _read_one(
    name: str,
    contract: Contract,
    offered: OutcomeTables,
    joined: _Joined,
    found: OutcomeArrays,
    faults: list[Fault],
) -> OutcomeArrays:
    if name == "survival" and contract.survival and offered.survival:
        return _read_survival(offered.survival, contract.survival, joined, found, faults)
    if name == "response" and contract.response and offered.response:
        return _read_response(offered.response, contract.response, joined, found, faults)
    if name == "toxicity" and contract.toxicity and offered.toxicity:
        return _read_toxicity(offered.toxicity, contract.toxicity, joined, found, faults)
    return found


class _Joined:
    """One outcome table, its cells checked in file order and used in the patients' order."""

    def __init__(self, table: Table, roster: Roster, patient_table: str) -> None:
        self.table = table
        self.roster = roster
        self.patient_table = patient_table
        self.ids = table.ids()

    def read(
        self, columns: list[str], checks: Mapping[str, Sequence[pa.Check]]
    ) -> tuple[pd.DataFrame, list[Fault]]:
        """Check columns; give those that exist by patient."""
        frame = self.table.cells([c for c in columns if c in self.table.columns])
        faults = validate(frame, checks, self.table)
        if self.table.name != self.patient_table:
            faults += check_identifiers(self.ids, self.table, unique=True)
            faults += stray_patients(self.roster, self.ids, self.table, self.patient_table)
        return aligned(self.roster, self.ids, frame), faults


def _read_survival(
    section: SurvivalColumns,
    survival: Survival,
    joined: _Joined,
    found: OutcomeArrays,
    faults: list[Fault],
) -> OutcomeArrays:
    longest = survival.longest if section.unit == "days" else None
    event_check = vocabulary_check("MMF-220", _event_sentence(section), lambda c: event_codes(c, section))
    checks = {section.time: number_checks(0.0, longest, section.unit), section.event: [event_check]}
    frame, new = joined.read([section.time, section.event], checks)
    faults += new
    if not {section.time, section.event} <= set(frame.columns):
        return found
    raw, event = numbers(frame[section.time]), event_codes(frame[section.event], section)
    right_time = np.isfinite(raw) & (raw >= 0)
    known = right_time & (event >= 0)
    days = np.where(known, raw * DAYS[section.unit], 0.0)
    found = replace(
        found, time_days=days, event=np.where(known, event, 0).astype(float), survival_known=known
    )
    table = joined.table.name
    half = int(((right_time & (event == MISSING)) | (frame[section.time].isna() & (event >= 0))).sum())
    if half:
        what = f"{half} patient(s) have a time or an event status without the other; survival is unknown"
        faults.append(Fault("MMF-221", what, table, None, section.event, half, "warning"))
    zero = int((known & (raw == 0)).sum())
    if zero:
        what = f"{zero} patient(s) have a follow-up of 0; they are kept"
        faults.append(Fault("MMF-222", what, table, None, section.time, zero, "warning"))
    if event_codes(frame[section.event], section).min(initial=0) != UNKNOWN:
        faults += _survival_plausibility(raw[known], event[known], section, survival, table)
    return found


def _survival_plausibility(
    raw: npt.NDArray[np.float64],
    event: npt.NDArray[np.int64],
    section: SurvivalColumns,
    survival: Survival,
    table: str,
) -> list[Fault]:
    if not (raw > 0).any():
        return [Fault("MMF-210", "nobody is followed", table, None, section.event, int(raw.size))]
    if not (event == 1).any():
        severity = "warning" if raw.size < FEW_PATIENTS else "error"
        return [
            Fault("MMF-210", "no patient has an event", table, None, section.event, int(raw.size), severity)
        ]
    faults = []
    if "unit" not in section.confirmed:
        for s in suspect_unit(raw, section.unit, survival):
            faults.append(Fault("MMF-208", s.what, table, None, section.time, s.count, s.severity))
    if "event" not in section.confirmed:
        suspicion = suspect_event_coding(raw, event.astype(np.float64))
        if suspicion is not None:
            s = suspicion
            faults.append(Fault("MMF-209", s.what, table, None, section.event, s.count, s.severity))
    return faults


def _several(value: Cell | tuple[Cell, ...] | None) -> tuple[Cell, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def event_codes(texts: pd.Series, section: SurvivalColumns) -> npt.NDArray[np.int64]:
    """Give 1 where the event happened, 0 where not, ``MISSING``, or ``UNKNOWN``.

    What means "not" is ``censored_value``; without it 0 where the event is 1, otherwise the one other value
    that occurs. More than one other value is unknown, not guessed.
    """
    happened = {normal(value): 1 for value in _several(section.event_value)}
    cells = [None if text is None else normal(text) for text in texts]
    censored = {normal(value) for value in _several(section.censored_value)}
    if not censored:
        others = {cell for cell in cells if cell is not None and cell not in happened}
        censored = {"0"} if set(happened) == {"1"} else others if len(others) == 1 else set()
    meaning = {**dict.fromkeys(censored, 0), **happened, "false": 0, "true": 1}
    if set(happened) != {"1"}:
        meaning = {**dict.fromkeys(censored, 0), **happened}
    found = [MISSING if cell is None else meaning.get(cell, UNKNOWN) for cell in cells]
    return np.array(found, dtype=np.int64)


def _event_sentence(section: SurvivalColumns) -> str:
    values = ", ".join(repr(value) for value in _several(section.event_value))
    if section.censored_value is None and set(map(normal, _several(section.event_value))) != {"1"}:
        return f"is one of several values besides {values}; name those that mean no event in `censored_value`"
    return f"is neither the event ({values}) nor no event; say what means the event in `event_value`"


def _read_response(
    section: ResponseColumn,
    response: Response,
    joined: _Joined,
    found: OutcomeArrays,
    faults: list[Fault],
) -> OutcomeArrays:

    def encode(texts: pd.Series) -> npt.NDArray[np.int64]:
        return codes(texts, response.classes, response.aliases)

    sentence = f"is not one of the response classes {', '.join(response.classes)} or their aliases"
    frame, new = joined.read(
        [section.column], {section.column: [vocabulary_check("MMF-207", sentence, encode)]}
    )
    faults += new
    if section.column not in frame.columns:
        return found
    index = encode(frame[section.column])
    if not (index != MISSING).any():
        what = "no patient has a response"
        faults.append(Fault("MMF-210", what, joined.table.name, None, section.column, len(frame)))
    return replace(found, response=np.maximum(index, MISSING))


def _read_toxicity(
    section: ToxicityColumns,
    toxicity: Toxicity,
    joined: _Joined,
    found: OutcomeArrays,
    faults: list[Fault],
) -> OutcomeArrays:
    mapping = {label: column for label, column in section.mapping.items() if label in toxicity.labels}
    for label in toxicity.labels:
        if label not in mapping:
            what = f"the study trains the toxicity label {label!r}; cohort.toml has no column for it"
            faults.append(Fault("MMF-214", what, joined.table.name, None, label, severity="warning"))
    check = vocabulary_check("MMF-220", "is neither 0 nor 1", binary_codes)
    frame, new = joined.read(list(mapping.values()), {column: [check] for column in mapping.values()})
    faults += new
    values, known = found.toxicity.copy(), found.toxicity_known.copy()
    for position, label in enumerate(toxicity.labels):
        if label in mapping and mapping[label] in frame.columns:
            code = binary_codes(frame[mapping[label]])
            values[:, position], known[:, position] = np.maximum(code, 0), code >= 0
    if mapping and not known.any():
        what = "no patient has a toxicity record"
        faults.append(Fault("MMF-210", what, joined.table.name, None, "", len(frame)))
    return replace(found, toxicity=values, toxicity_known=known)
