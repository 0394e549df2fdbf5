"""Reference values of clinical columns: those of the public cohorts that have the column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.simulations.knowledge.public_cohort import cohort_toml

from mmfed_common.study import Study
from mmfed_simulations.knowledge.clinical_reference import ClinicalReference, clinical_references

COHORT = cohort_toml('[demographics]\ntable = "t"\ncolumns = {columns}')
STUDY = Study.from_content(
    {
        "study": {"name": "referred", "seed": 5},
        "contract": {
            "normalisation": "reference",
            "demographics": {
                "age": {"kind": "number"},
                "smoked": {"kind": "number", "transform": "log1p"},
                "sex": {"kind": "binary"},
                "grade": {"kind": "ordinal", "values": ["1", "2", "3"]},
            },
            "survival": {"bins": [365, 1000, 3000], "horizons": [365]},
        },
        "training": {"stages": [{"level": "clinical", "rounds": 1}]},
    }
)


def _cohort(folder: Path, patients: int, columns: list[str], seed: int) -> pd.DataFrame:
    folder.mkdir()
    draw = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "id": [f"p{n}" for n in range(patients)],
            "days": np.arange(patients) * 20 + 100,
            "died": np.arange(patients) % 2,
            "age": draw.normal(60, 10, patients),
            "smoked": draw.gamma(2.0, 15.0, patients),
            "sex": draw.integers(0, 2, patients),
            "grade": draw.integers(1, 4, patients),
        }
    )
    table.to_csv(folder / "t.csv", index=False)
    (folder / "cohort.toml").write_text(COHORT.format(columns=columns))
    return table


def test_all_patients_of_the_cohorts_that_have_a_column_count(tmp_path: Path) -> None:
    first = _cohort(tmp_path / "first", 80, ["age", "smoked", "sex"], 1)
    second = _cohort(tmp_path / "second", 40, ["age", "sex"], 2)
    _cohort(tmp_path / "few", 29, ["grade"], 3)
    places = [(tmp_path / name, None) for name in ("first", "second", "few")]
    age, smoked = clinical_references(STUDY, places)
    both = pd.concat([first, second])["age"]
    assert (age.section, age.column, age.patients) == ("demographics", "age", 120)
    assert (age.mean, age.deviation) == pytest.approx((both.mean(), both.std(ddof=0)), rel=1e-5)
    logged = np.log1p(first["smoked"])
    assert (smoked.column, smoked.patients) == ("smoked", 80)
    assert (smoked.mean, smoked.deviation) == pytest.approx((logged.mean(), logged.std(ddof=0)), rel=1e-5)


def test_the_lines_are_what_a_study_reads(tmp_path: Path) -> None:
    _cohort(tmp_path / "first", 80, ["age", "grade"], 1)
    found = clinical_references(STUDY, [(tmp_path / "first", None)])
    assert [one.column for one in found] == ["age", "grade"]
    lines = found[0].toml().splitlines()
    assert lines[0] == "[contract.demographics.age]"
    changed = STUDY.with_changes(contract={"demographics": {"age": {"kind": "number", **_values(lines[1:])}}})
    assert changed.contract.columns["age"].reference_mean == pytest.approx(found[0].mean, rel=5e-3)
    assert changed.contract.columns["age"].reference_deviation == pytest.approx(found[0].deviation, rel=5e-3)


def test_a_cohort_without_any_of_the_columns_says_nothing(tmp_path: Path) -> None:
    _cohort(tmp_path / "first", 80, [], 1)
    assert clinical_references(STUDY, [(tmp_path / "first", None)]) == []


def test_genes_knowledge_and_relations_of_the_study_play_no_part(tmp_path: Path) -> None:
    """Neither the pack nor a table of genes is needed: the cohort has none."""
    table = _cohort(tmp_path / "first", 80, ["age", "grade"], 1)
    study = STUDY.with_changes(
        contract={
            "gene": {"panel": "knowledge", "layers": {"expression": {}}},
            "knowledge": {"file": "none.mmfk", "sha256": "0" * 64},
            "relations": {"source": "site", "threshold": 0.2},
        }
    )
    age, grade = clinical_references(study, [(tmp_path / "first", None)])
    assert age.mean == pytest.approx(table["age"].mean(), rel=1e-5)
    assert [age, grade] == clinical_references(STUDY, [(tmp_path / "first", None)])


@pytest.mark.parametrize("value", [7.0, 2007.4])
def test_a_column_that_is_the_same_for_everybody_has_none(value: float, tmp_path: Path) -> None:
    table = _cohort(tmp_path / "first", 80, ["age", "grade"], 1)
    table.assign(age=value).to_csv(tmp_path / "first" / "t.csv", index=False)
    assert [one.column for one in clinical_references(STUDY, [(tmp_path / "first", None)])] == ["grade"]


@pytest.mark.parametrize(
    ("mean", "deviation", "told"),
    [
        (2007.4321, 3.14159, ("2007.43", "3.14")),
        (63.21, 10.44, ("63.2", "10.4")),
        (123456.7, 1234.5, ("123457", "1234")),
        (-0.00123456, 0.00234567, ("-0.00123", "0.00235")),
    ],
)
def test_numbers_have_as_many_digits_as_the_deviation_asks_for(
    mean: float, deviation: float, told: tuple[str, str]
) -> None:
    lines = ClinicalReference("clinical", "year", mean, deviation, 100).toml().splitlines()
    assert lines == [
        "[contract.clinical.year]",
        f"reference_mean = {told[0]}",
        f"reference_deviation = {told[1]}",
    ]
    values = _values(lines[1:])
    assert abs(values["reference_mean"] - mean) <= deviation / 100
    assert values["reference_deviation"] == pytest.approx(deviation, rel=0.01)


def _values(lines: list[str]) -> dict[str, float]:
    return {name: float(value) for name, value in (line.split(" = ") for line in lines)}
