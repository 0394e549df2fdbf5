"""The command that makes tables: what it can be asked for, and a row made from public data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmfed_common.errors import DataError, StudyError
from mmfed_simulations.cli.program import run
from mmfed_simulations.tables.cohorts import Places
from mmfed_simulations.tables.rows import RowResult
from mmfed_simulations.tables.table import Workshop
from mmfed_simulations.tables.writing import TABLES, make_tables, wanted_rows

ROOT = Path(__file__).resolve().parents[3]


def test_everything_is_made_unless_something_is_asked_for() -> None:
    every = {table.name: rows for table, rows in wanted_rows(()).items()}
    assert every == {table.name: list(table.rows) for table in TABLES}
    some = {table.name: rows for table, rows in wanted_rows(["methods/KIRC/full", "field/LUAD/cv"]).items()}
    assert some["methods"] == ["KIRC/full"]
    assert "LUAD/cv/federated" in some["field"]
    assert not any(row.startswith(("BRCA", "LUAD/sites")) for row in some["field"])


def test_a_row_that_is_not_there_is_named() -> None:
    with pytest.raises(StudyError, match="no row is called 'fields'") as caught:
        wanted_rows(["fields"])
    assert caught.value.code == "MMF-511"


def test_rows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["results", "--list", "--only", "methods/LUAD"]) == 0
    lines = capsys.readouterr().out.split()
    assert "methods/LUAD/full-mean" in lines
    assert len(set(lines)) == len(lines)


@dataclass(frozen=True)
class Squares:
    """A table that needs no training: three numbers and their squares."""

    name: str = "squares"
    rows: tuple[str, ...] = ("A/1", "A/2", "A/3")

    def make(self, workshop: Workshop, row: str) -> RowResult:
        took = None if row == "A/1" else float(row[2:])
        return RowResult("", {}, {}, {"square": int(row[2:]) ** 2}, took)

    def page(self, found: Mapping[str, RowResult]) -> str:
        return "".join(f"{row}: {result.facts['square']}\n" for row, result in found.items())


def test_a_page_says_how_many_of_its_rows_are_missing(tmp_path: Path) -> None:
    workshop = Workshop(Places(tmp_path, tmp_path, tmp_path), 1, lambda _: None)
    make_tables({Squares(): ["A/3"]}, workshop, tmp_path / "docs", lambda *_: None)
    page = tmp_path / "docs" / "squares.md"
    assert page.read_text(encoding="utf-8") == (
        "A/3: 9\n\n1 of 3 rows have been made; `mmfed-simulate results --only squares` makes the others.\n"
    )
    make_tables({Squares(): ["A/1"]}, workshop, tmp_path / "docs", lambda *_: None)
    assert page.read_text(encoding="utf-8").startswith("A/1: 1\nA/3: 9\n\n2 of 3 rows have been made;")
    make_tables({Squares(): ["A/2"]}, workshop, tmp_path / "docs", lambda *_: None)
    assert page.read_text(encoding="utf-8") == "A/1: 1\nA/2: 4\nA/3: 9\n"


def test_what_the_rows_took_is_summed_and_what_is_unknown_is_counted(tmp_path: Path) -> None:
    workshop = Workshop(Places(tmp_path, tmp_path, tmp_path), 1, lambda _: None)
    made = make_tables({Squares(): ["A/1", "A/2", "A/3"]}, workshop, tmp_path / "docs", lambda *_: None)
    assert (made.seconds, made.unknown) == (5.0, 1)
    assert made.pages == (tmp_path / "docs" / "squares.md",)


@pytest.mark.shared_data
@pytest.mark.e2e
def test_a_row_is_made_from_public_data_and_found_again(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--data", str(shared_data), "--studies", str(ROOT / "simulations" / "studies")]
    places += ["--out", str(tmp_path / "work"), "--docs", str(tmp_path / "docs")]
    assert run(["results", *places, "--only", "field/KIRC/cv/cox_clinical"]) == 0
    record = json.loads((tmp_path / "docs" / "field.json").read_text(encoding="utf-8"))
    figures = record["rows"]["KIRC/cv/cox_clinical"]["figures"]["survival"]["c_index"]
    assert figures["n"] == 537
    assert figures["low"] < figures["estimate"] < figures["high"]
    page = (tmp_path / "docs" / "field.md").read_text(encoding="utf-8")
    assert "Cox, clinical" in page
    assert run(["results", *places, "--only", "field/KIRC/cv/ridge_all", "--json"]) == 0
    both = json.loads((tmp_path / "docs" / "field.json").read_text(encoding="utf-8"))["rows"]
    assert set(both) == {"KIRC/cv/cox_clinical", "KIRC/cv/ridge_all"}
    assert both["KIRC/cv/cox_clinical"] == record["rows"]["KIRC/cv/cox_clinical"]


@pytest.mark.shared_data
def test_a_cohort_opens_with_proteins_and_with_responses(shared_data: Path, tmp_path: Path) -> None:
    places = Places(ROOT / "simulations" / "studies", shared_data, tmp_path)
    plain, proteins, responses = (
        places.tcga("SKCM"),
        places.with_proteins("SKCM"),
        places.with_response("SKCM"),
    )
    assert proteins.cohort.patients.patient_ids == plain.cohort.patients.patient_ids
    measured = proteins.cohort.patients.nodes["protein"].present.flatten(1).any(dim=1)
    assert 150 < int(measured.sum()) <= 204
    assert "protein" not in plain.cohort.patients.nodes
    known = responses.cohort.patients.outcomes.response
    assert int((known == 1).sum()) == 43 + 13
    assert int((known == 0).sum()) == 52 + 11
    with pytest.raises(DataError, match="is not there") as caught:
        Places(places.studies, tmp_path, tmp_path).tcga("SKCM")
    assert caught.value.code == "MMF-201"


@pytest.mark.shared_data
@pytest.mark.e2e
def test_calibration_and_worth_rest_on_one_comparison(shared_data: Path, tmp_path: Path) -> None:
    places = ["--data", str(shared_data), "--studies", str(ROOT / "simulations" / "studies")]
    places += ["--out", str(tmp_path / "work"), "--docs", str(tmp_path / "docs")]
    assert run(["results", *places, "--only", "hospital/SKCM"]) == 0
    trained = sorted((tmp_path / "work" / "comparisons" / "SKCM" / "cache").glob("*.parquet"))
    assert run(["results", *places, "--only", "calibration/SKCM"]) == 0
    assert sorted((tmp_path / "work" / "comparisons" / "SKCM" / "cache").glob("*.parquet")) == trained
    assert "SKCM" in (tmp_path / "docs" / "hospital.md").read_text(encoding="utf-8")
    assert "slope" in (tmp_path / "docs" / "calibration.md").read_text(encoding="utf-8")
