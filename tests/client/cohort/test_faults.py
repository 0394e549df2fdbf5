"""Every way in which a cohort can be wrong has its code, its place and its count."""

# ruff: noqa: E501  (one case a line)

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from mmfed_client.cohort import faults_as_json, format_faults
from mmfed_common.error_codes import CODES
from mmfed_common.errors import CohortError, Fault

Spoil = Callable[[Any], None]


def test_a_sound_cohort_has_no_fault(small: Any) -> None:
    assert small.check() == []


def reversed_events(small: Any) -> None:
    """Mark the 35 longest follow-ups as events."""
    small.clinical["dead"] = 0
    small.clinical.loc[small.clinical["days"].nlargest(35).index, "dead"] = 1


def mixed_units(small: Any) -> None:
    """Give 20 of 60 times in whole months, the others in days."""
    days = np.exp(np.random.default_rng(5).normal(np.log(700), 0.6, 60))
    small.clinical["days"] = np.round(np.where(np.arange(60) < 20, days / 30.4375, days))


def months(small: Any) -> None:
    """Give all times in months."""
    small.clinical["days"] = (small.clinical["days"] / 30.4375).round(1)


def cells(table: str, column: str, rows: int | list[int], value: object) -> Spoil:
    """Overwrite some cells."""
    return lambda small: small.set(table, column, rows, value)


def column(table: str, name: str, make: Callable[[Any], object]) -> Spoil:
    """Replace a column by one made from the clinical table."""
    return lambda small: small.frames[table].__setitem__(name, make(small.clinical))


def renamed(table: str, **names: str) -> Spoil:
    """Rename columns, ``old=new``."""
    return lambda small: small.frames[table].rename(columns=names, inplace=True)


def dropped(table: str, *names: str) -> Spoil:
    """Take columns out of a table."""
    return lambda small: small.frames[table].drop(columns=list(names), inplace=True)


def described(*path: str, **changes: object) -> Spoil:
    """Change a section of cohort.toml."""

    def spoil(small: Any) -> None:
        section = small.description
        for key in path:
            section = section[key]
        section.update(changes)

    return spoil


def file_instead(name: str) -> Spoil:
    """Name a file for the protein table that is not there or of no known kind."""

    def spoil(small: Any) -> None:
        small.frames.pop("protein")
        small.description["tables"]["protein"] = name

    return spoil


def other_outcomes(small: Any) -> None:
    """Describe outcomes that the study does not train."""
    del small.contract["survival"], small.contract["toxicity"], small.description["outcome"]["response"]


def no_rows(small: Any) -> None:
    """Leave the patient table without patients."""
    small.frames["clinical"] = small.clinical.iloc[:0]


def two_old_names(small: Any) -> None:
    """Give one gene under two old names."""
    renamed("expression", KMT2A="MLL")(small)
    small.frames["expression"]["ALL1"] = 1.0


def no_proteins(small: Any) -> None:
    """Empty every protein cell."""
    small.frames["protein"].loc[:, ["AKT", "AKT_pS473"]] = np.nan


SWAPPED = {"age": "days", "sex": "sex"}
DATES = {"MARCHF1": "1-Mar", "TP53": "gene3", "EGFR": "gene4"}

# what is wrong: code, table, row, column, count of the fault, and how the cohort is spoilt
CASES: dict[str, tuple[str, str, int | None, str, int | None, Spoil]] = {
    "missing file": ("MMF-201", "protein", None, "", 1, file_instead("gone.csv")),
    "missing column": ("MMF-203", "clinical", None, "age", 1, renamed("clinical", age="Age")),
    "duplicate patient": ("MMF-204", "clinical", 9, "patient_id", 1, cells("clinical", "patient_id", 9, "P000")),
    "duplicate protein row": ("MMF-204", "protein", 3, "patient_id", 1, cells("protein", "patient_id", 3, " P001 ")),
    "text in a number": ("MMF-205", "clinical", 4, "age", 2, cells("clinical", "age", [4, 8], "about 60")),
    "text in a time": ("MMF-205", "clinical", 4, "days", 1, cells("clinical", "days", 4, "2 years")),
    "text in expression": ("MMF-205", "expression", 11, "TP53", 2, cells("expression", "TP53", [11, 12], "n.d.")),
    "impossible age": ("MMF-206", "clinical", 2, "age", 1, cells("clinical", "age", 2, 620)),
    "negative time": ("MMF-206", "clinical", 7, "days", 1, cells("clinical", "days", 7, -3)),
    "infinite number": ("MMF-206", "clinical", 1, "age", 1, cells("clinical", "age", 1, "inf")),
    "time beyond any life": ("MMF-206", "clinical", 1, "days", 1, cells("clinical", "days", 1, 99999)),
    "negative expression": ("MMF-206", "expression", 5, "EGFR", 1, cells("expression", "EGFR", 5, -0.5)),
    "infinite protein": ("MMF-206", "protein", 6, "AKT", 1, cells("protein", "AKT", 6, "inf")),
    "tile without a place": ("MMF-206", "imaging", 6, "x", 1, cells("imaging", "x", 6, None)),
    "unknown category": ("MMF-207", "clinical", 3, "stage", 2, cells("clinical", "stage", [3, 5], "V")),
    "unknown sex": ("MMF-207", "clinical", 3, "sex", 1, cells("clinical", "sex", 3, "woman")),
    "unknown response": ("MMF-207", "clinical", 3, "response", 1, cells("clinical", "response", 3, "SD")),
    "months called days": ("MMF-208", "clinical", None, "days", 60, months),
    "days called months": ("MMF-208", "clinical", None, "days", None, described("outcome", "survival", unit="months")),
    "days and months mixed": ("MMF-208", "clinical", None, "days", 20, mixed_units),
    "event backwards": ("MMF-209", "clinical", None, "dead", 35, reversed_events),
    "all censored": ("MMF-210", "clinical", None, "dead", 60, column("clinical", "dead", lambda c: 0)),
    "nobody followed": ("MMF-210", "clinical", None, "dead", 60, column("clinical", "days", lambda c: 0)),
    "nobody with a response": ("MMF-210", "clinical", None, "response", 60, column("clinical", "response", lambda c: None)),
    "outcome column as feature": ("MMF-211", "clinical", None, "days", 1, described("demographics", columns=SWAPPED)),
    "outcome column as protein": ("MMF-211", "clinical", None, "days", 1, described("protein", table="clinical", columns={"AKT": "days"})),
    "copy of the time": ("MMF-211", "clinical_feature", None, "age", 1, column("clinical", "age", lambda c: c["days"].rank() + 5)),
    "copy of the event": ("MMF-211", "expression", None, "TP53", 1, column("expression", "TP53", lambda c: c["dead"] * 3.0 + np.linspace(0, 1, 60))),
    "filled for the dead only": ("MMF-211", "clinical_feature", None, "smoker", 1, column("clinical", "smoker", lambda c: c["smoker"].where(c["dead"] == 1))),
    "empty modality": ("MMF-212", "protein", None, "", 1, no_proteins),
    "unknown gene symbols": ("MMF-213", "expression", None, "gene3", 3, renamed("expression", **DATES)),
    "required column not named": ("MMF-214", "clinical", None, "stage", 1, described("clinical", columns=["site_of_origin"])),
    "required column empty": ("MMF-214", "clinical", None, "stage", 60, column("clinical", "stage", lambda c: "Stage X ")),
    "too little of the panel": ("MMF-214", "gene", None, "TP53", 3, dropped("expression", "TP53", "EGFR", "MARCHF1")),
    "imaging feature missing": ("MMF-214", "imaging", None, "texture", 1, dropped("imaging", "texture")),
    "no outcome of the study": ("MMF-214", "", None, "outcome", 1, other_outcomes),
    "empty identifier": ("MMF-215", "clinical", 0, "patient_id", 2, cells("clinical", "patient_id", [0, 30], " ")),
    "unknown format": ("MMF-217", "protein", None, "", 1, file_instead("protein.xlsx")),
    "two old names of a gene": ("MMF-218", "expression", None, "ALL1", 2, two_old_names),
    "no patients": ("MMF-219", "clinical", None, "", 1, no_rows),
    "event coded 1 and 2": ("MMF-220", "clinical", None, "dead", None, column("clinical", "dead", lambda c: c["dead"] + 1)),
    "binary coded 1 and 2": ("MMF-220", "clinical", None, "smoker", None, column("clinical", "smoker", lambda c: c["smoker"] + 1)),
    "toxicity by grade": ("MMF-220", "toxicity", 5, "nausea", 1, cells("toxicity", "nausea", 5, 3)),
    "no site": ("MMF-223", "clinical", 2, "hospital", 1, cells("clinical", "hospital", 2, None)),
    "half a fold": ("MMF-223", "clinical", 2, "fold", 1, cells("clinical", "fold", 2, 0.5)),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", CASES)
def test_each_fault_has_code_place_and_count(small: Any, name: str, suffix: str) -> None:
    code, table, row, column, count, spoil = CASES[name]
    small.suffix = suffix
    spoil(small)
    if suffix == ".parquet":  # parquet has typed columns: mixed ones are text
        for frame in small.frames.values():
            for mixed in frame.select_dtypes("object").columns:
                frame[mixed] = frame[mixed].map(str, na_action="ignore")
    faults = small.check()
    found = [f for f in faults if (f.code, f.table, f.column, f.severity) == (code, table, column, "error")]
    assert found, faults
    if row is not None:
        assert found[0].row == row
    if count is not None:
        assert found[0].count == count
    with pytest.raises(CohortError) as raised:
        small.load()
    assert raised.value.faults == faults
    assert raised.value.public == f"MMF-200 {CODES['MMF-200'].meaning}"


WARNINGS: dict[str, tuple[str, str, str, int, Spoil]] = {
    "old gene name": ("MMF-213", "expression", "MLL", 1, renamed("expression", KMT2A="MLL")),
    "a gene of no use": ("MMF-213", "expression", "LOC123", 1, column("expression", "LOC123", lambda c: 1.0)),
    "old name beside the approved": ("MMF-218", "expression", "MLL", 1, column("expression", "MLL", lambda c: 1.0)),
    "stranger": ("MMF-216", "expression", "patient_id", 1, cells("expression", "patient_id", 0, "X9")),
    "no event status": ("MMF-221", "clinical", "dead", 2, cells("clinical", "dead", [1, 2], None)),
    "follow-up of zero": ("MMF-222", "clinical", "days", 2, cells("clinical", "days", [1, 2], 0)),
    "many tiles": ("MMF-224", "imaging", "", 1, cells("imaging", "patient_id", list(range(8)), "P000")),
    "label without a column": ("MMF-214", "toxicity", "nausea", 1, described("outcome", "toxicity", columns=["neutropenia"])),
}  # fmt: skip


@pytest.mark.parametrize("name", WARNINGS)
def test_what_does_not_stop_the_study_is_a_warning(small: Any, name: str) -> None:
    code, table, column, count, spoil = WARNINGS[name]
    spoil(small)
    cohort = small.load()
    found = [f for f in cohort.warnings if (f.code, f.table, f.column) == (code, table, column)]
    assert [f.count for f in found] == [count], cohort.warnings
    assert all(f.severity == "warning" for f in cohort.warnings)


def test_every_fault_is_collected_at_once(small: Any, errors: Callable[[list[Fault]], set[str]]) -> None:
    small.set("clinical", "patient_id", 9, "P000")
    small.set("clinical", "age", 4, "old")
    small.set("clinical", "age", 6, 300)
    small.set("clinical", "stage", 3, "V")
    small.set("toxicity", "nausea", 5, 3)
    small.set("protein", "AKT", 6, "inf")
    small.set("expression", "TP53", 11, "n.d.")
    small.frames["imaging"].drop(columns="texture", inplace=True)
    expected = {"MMF-204", "MMF-205", "MMF-206", "MMF-207", "MMF-214", "MMF-220"}
    faults = small.check()
    assert errors(faults) == expected
    assert sum(fault.severity == "error" for fault in faults) == 8


def test_a_fault_names_the_nearest_column(small: Any) -> None:
    small.clinical.rename(columns={"stage": "stages"}, inplace=True)
    (fault,) = small.check()
    assert "stages" in fault.what


@pytest.mark.parametrize(("code", "word"), [("MMF-208", "unit"), ("MMF-209", "event")])
def test_a_suspicion_that_was_checked_no_longer_stops(small: Any, code: str, word: str) -> None:
    spoil = mixed_units if word == "unit" else reversed_events
    spoil(small)
    assert code in {fault.code for fault in small.check()}
    small.description["outcome"]["survival"]["confirmed"] = [word]
    assert code not in {fault.code for fault in small.check()}


def test_nothing_is_a_gene_fault_without_a_knowledge_pack(small: Any) -> None:
    small.frames["expression"]["whatever"] = 1.0
    assert small.check(symbols=None) == []


def test_table_and_records_hold_every_fault(small: Any) -> None:
    small.set("clinical", "stage", 3, "[V]")
    small.set("clinical", "age", 6, 300)
    faults = small.check()
    records = faults_as_json(faults)
    assert [r["code"] for r in records] == [f.code for f in faults]
    assert all(r["next_step"] == CODES[r["code"]].next_step for r in records)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(format_faults(faults))
    text = console.export_text()
    assert "MMF-207" in text
    assert "[V]" in text


def test_a_small_site_without_an_event_is_a_warning(small: Any) -> None:
    for name, frame in small.frames.items():
        if "patient_id" in frame:
            kept = small.clinical["patient_id"].head(20)
            small.frames[name] = frame[frame["patient_id"].isin(kept)].reset_index(drop=True)
    small.frames["clinical"]["dead"] = 0
    found = [fault for fault in small.check() if fault.code == "MMF-210"]
    assert [(fault.severity, fault.count) for fault in found] == [("warning", 20)]
