"""Demographic and clinical columns: checked against the contract and encoded as clinical features."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa
import torch

from mmfed_client.cohort.cells import binary_codes, codes, numbers, without
from mmfed_client.cohort.checks import check, number_checks, validate, vocabulary_check
from mmfed_client.cohort.description import CohortDescription
from mmfed_client.cohort.reading import Reading
from mmfed_client.cohort.roster import aligned, by_table
from mmfed_client.cohort.tables import Table
from mmfed_common.contract import Column, Contract
from mmfed_common.errors import Fault
from mmfed_common.patients import NodeTensors


def read_clinical(reading: Reading) -> tuple[NodeTensors, list[Fault]]:
    """Read the contract's columns as ``(patients, clinical features, 1)``."""
    contract, roster = reading.contract, reading.roster
    index = {name: place for place, name in enumerate(reading.topology.nodes["clinical_feature"])}
    values, present = reading.empty("clinical_feature")
    sources, faults = _sources(reading.description, contract)
    for table_name, columns in by_table(sources).items():
        if table_name not in reading.tables:
            continue
        table = reading.tables[table_name]
        frame, new = _checked(table, columns, contract)
        faults += new
        _, new = reading.owners(table)
        faults += new
        by_patient = aligned(roster, table.ids(), frame)
        for name, column_name in columns.items():
            if column_name not in by_patient.columns:
                continue
            column = contract.columns[name]
            encoded, known = encode(without(by_patient[column_name], column.missing), column)
            if column.required and not known.any():
                what = f"the contract requires {name!r}; no patient has a usable value"
                faults.append(Fault("MMF-214", what, table_name, None, column_name, len(roster)))
            for feature, feature_values in zip(_features(name, column), encoded.T, strict=True):
                values[:, index[feature], 0] = np.where(known, feature_values, 0.0)
                present[:, index[feature], 0] = known
    if sources and not present.any():
        what = "no patient has a value in any demographic or clinical column"
        faults.append(Fault("MMF-212", what, reading.description.patient_table))
    return NodeTensors(torch.from_numpy(values), torch.from_numpy(present)), faults


def _sources(
    description: CohortDescription, contract: Contract
) -> tuple[dict[str, tuple[str, str]], list[Fault]]:
    """Find where each column of the contract comes from; required ones that nobody names are faults."""
    offered = description.feature_sources()
    faults = []
    for name, column in contract.columns.items():
        if name not in offered and column.required:
            near = get_close_matches(name, offered, n=2, cutoff=0.6)
            hint = f"; cohort.toml has {', '.join(near)}" if near else ""
            what = f"the contract requires the column {name!r}, which cohort.toml does not name{hint}"
            faults.append(Fault("MMF-214", what, description.patient_table, None, name))
    return {name: offered[name] for name in contract.columns if name in offered}, faults


def _checked(
    table: Table, columns: Mapping[str, str], contract: Contract
) -> tuple[pd.DataFrame, list[Fault]]:
    frame = table.cells([c for c in columns.values() if c in table.columns])
    checks: dict[str, list[pa.Check]] = {}
    for name, column_name in columns.items():
        checks.setdefault(column_name, []).extend(_checks(contract.columns[name]))
    return frame, validate(frame, checks, table)


def _checks(column: Column) -> list[pa.Check]:
    if column.kind == "number":
        checks = number_checks(column.minimum, column.maximum, column.unit, column.missing)
        if column.transform == "log1p":
            sentence = "has no logarithm: it must be above -1"
            checks.append(check("MMF-206", sentence, lambda c: ~(numbers(c) <= -1), column.missing))
        return checks
    if column.kind == "binary" and not column.values:
        code, sentence = "MMF-220", "is neither 0 nor 1"
    else:
        code, sentence = "MMF-207", f"is not one of {', '.join(column.values)} or their aliases"
    return [vocabulary_check(code, sentence, lambda c: _codes(c, column), column.missing)]


def _codes(texts: pd.Series, column: Column) -> npt.NDArray[np.int64]:
    if column.kind == "binary":
        return binary_codes(texts, column.values, column.aliases)
    return codes(texts, column.values, column.aliases)


def _features(name: str, column: Column) -> list[str]:
    if column.kind == "category":
        return [f"{name}={value}" for value in column.values[1:]]
    return [name]


def encode(texts: pd.Series, column: Column) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Encode one column: ``(patients, features)`` and whether each patient's cell is known and right."""
    if column.kind == "number":
        values = numbers(texts)
        known = np.isfinite(values)
        if column.transform == "log1p":
            known &= values > -1
            values = np.log1p(np.where(known, values, 0.0))
        return values[:, None], known
    index = _codes(texts, column)
    if column.kind == "category":
        return (index[:, None] == np.arange(1, len(column.values))).astype(np.float64), index >= 0
    return index[:, None].astype(np.float64), index >= 0
