"""cohort.toml: what is refused, and where tables are looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmfed_client.cohort import load_description
from mmfed_common.errors import DataError

SOUND = """
[cohort]
id_column = "id"
[tables]
clinical = "clinical.csv"
other = { file = "other.csv", id_column = "pid", delimiter = ";" }
[clinical]
table = "clinical"
columns = { age = "ALTER" }
[outcome.survival]
table = "clinical"
time = "days"
event = "dead"
unit = "days"
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "cohort.toml"
    file.write_text(text)
    return file


def test_a_sound_description(tmp_path: Path) -> None:
    file = written(tmp_path, SOUND)
    description = load_description(file)
    assert description == load_description(tmp_path)
    assert description.tables["clinical"].file == tmp_path / "clinical.csv"
    assert description.id_column("clinical") == "id"
    assert description.id_column("other") == "pid"
    assert description.feature_sources() == {"age": ("clinical", "ALTER")}
    assert description.patient_table == "clinical"


def test_where_tables_are_looked_for(tmp_path: Path) -> None:
    file = written(tmp_path, SOUND)
    elsewhere = tmp_path / "elsewhere"
    assert load_description(file, elsewhere).tables["clinical"].file == elsewhere / "clinical.csv"
    own = written(tmp_path, SOUND.replace('id_column = "id"', 'id_column = "id"\nroot = "tables"', 1))
    assert load_description(own, elsewhere).tables["clinical"].file == tmp_path / "tables" / "clinical.csv"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("[tables]", "[tables]\nsite = 3"), "tables.site"),
        (('id_column = "id"', 'id_column = "id"\nid_colum = "x"'), "cohort.id_colum"),
        (('unit = "days"', 'unit = "hours"'), "outcome.survival.unit"),
        (('unit = "days"', ""), "outcome.survival.unit"),
        (('table = "clinical"\ncolumns', 'table = "klinik"\ncolumns'), "klinik"),
        (("[clinical]", '[demographics]\ncolumns = ["age"]\n[clinical]'), "age"),
        (("[outcome.survival]", "[outcome.survivel]"), "outcome.survivel"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], named: str) -> None:
    with pytest.raises(DataError) as raised:
        load_description(written(tmp_path, SOUND.replace(*change, 1)))
    assert raised.value.code == "MMF-202"
    assert named in raised.value.what


def test_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        load_description(tmp_path / "nowhere")
    assert raised.value.code == "MMF-201"
    with pytest.raises(DataError) as raised:
        load_description(written(tmp_path, "[cohort"))
    assert raised.value.code == "MMF-202"


def test_every_section_of_the_documentation_is_known(tmp_path: Path, request: Any) -> None:
    page = (request.config.rootpath / "docs" / "cohort.md").read_text(encoding="utf-8")
    example = page.split("```toml", 1)[1].split("```", 1)[0]
    description = load_description(written(tmp_path, example))
    assert set(type(description).model_fields) == description.model_fields_set
