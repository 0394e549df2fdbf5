"""A column that was renamed is named, with the nearest name that there is, whatever the table's format."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.client.joined_home import COHORT, one_column_study, write_cohort

from mmfed_client.cohort import check_cohort, load_description
from mmfed_client.cohort.description import TableFile
from mmfed_client.cohort.tables import open_table
from mmfed_common.errors import Fault
from mmfed_common.graph import build_topology

FORMATS = ("csv", "csv.gz", "parquet", "feather")
STUDY = one_column_study()


def write(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table in the format of its name."""
    if ".csv" in path.suffixes:
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_feather(path)
    return path


def faults_of(folder: Path, ending: str, renamed: str) -> list[Fault]:
    """What is wrong with a cohort in which one column has another name."""
    description = write_cohort(folder)
    frame = pd.read_csv(folder / "t.csv").rename(columns={renamed: f"{renamed}_new"})
    (folder / "t.csv").unlink()
    description.write_text(COHORT.replace("t.csv", write(frame, folder / f"t.{ending}").name))
    topology = build_topology(STUDY.contract, None)
    return check_cohort(load_description(description), STUDY.contract, topology, None)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("column", ["id", "age", "days", "died"])
def test_the_missing_column_and_the_nearest_are_named(tmp_path: Path, ending: str, column: str) -> None:
    fault, *others = faults_of(tmp_path, ending, column)
    assert fault.code == "MMF-203"
    assert f"{column!r}" in fault.what
    if column != "id":  # too short for a name to be near
        assert f"{column}_new" in fault.what.partition("near names: ")[2]
        assert fault.column == column
    assert "MMF-201" not in {other.code for other in others}


@pytest.mark.parametrize("ending", FORMATS)
def test_no_columns_are_none_and_not_all(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame({"patient": ["a", "b"], "x": [1.0, 2.0]})
    path = write(frame, tmp_path / f"t.{ending}")
    table = open_table("t", TableFile(file=path), "patient")
    assert table.cells([]).empty
    assert list(table.blocks([])) == []
