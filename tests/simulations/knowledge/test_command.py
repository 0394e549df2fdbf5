"""The knowledge command, through Typer."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from tests.simulations.knowledge.public_cohort import cohort_toml
from typer.testing import CliRunner

from mmfed_common.errors import CohortError, ModelError
from mmfed_common.knowledge import KnowledgePack
from mmfed_common.study import Study
from mmfed_simulations.knowledge.column_names import column_names
from mmfed_simulations.knowledge.command import app


def test_build_and_show_agree(published: dict[str, Path], tmp_path: Path) -> None:
    pd.DataFrame(columns=["patient_id", "MYC", "ADSS", "TP53"]).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame(columns=["patient_id", "MYC", "TP53", "AKT1"]).to_csv(tmp_path / "b.csv.gz", index=False)
    out = tmp_path / "k.pack.gz"
    arguments = ["build", "--out", str(out), "--json", "--source-version", "Reactome=R85"]
    arguments += [text for path in published.values() for text in ("--source", str(path))]
    tables = ["--genes-from", str(tmp_path / "a.parquet"), "--genes-from", str(tmp_path / "b.csv.gz")]
    result = CliRunner().invoke(app, [*arguments, *tables], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    built = json.loads(result.stdout)
    assert KnowledgePack.load(out).genes == ("MYC", "TP53")
    assert built["relations"]["gene interacts_with gene"] == 2
    assert built["sha256"] == KnowledgePack.load(out).sha256
    shown = CliRunner().invoke(app, ["show", str(out), "--json"], catch_exceptions=False)
    assert json.loads(shown.stdout) == built
    table = CliRunner().invoke(app, ["show", str(out)], catch_exceptions=False)
    assert built["sha256"] in table.stdout
    assert "CC BY-SA 4.0" in table.stdout.replace("\n", " ")
    any_of = CliRunner().invoke(app, [*arguments, *tables, "--columns-in", "any"], catch_exceptions=False)
    assert json.loads(any_of.stdout)["genes"] == 4


def test_a_version_without_an_owner_is_a_usage_error(published: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["build", "--out", str(tmp_path / "k"), "--source", str(published["hgnc"])]
    assert CliRunner().invoke(app, [*arguments, "--source-version", "R85"]).exit_code == 2


def test_column_names_of_every_format(tmp_path: Path) -> None:
    frame = pd.DataFrame({"patient_id": ["p"], "MYC": [1.0]})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_feather(tmp_path / "t.feather")
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    for path in tmp_path.iterdir():
        assert column_names([path]) == {"patient_id", "MYC"}
    assert column_names([]) is None
    (tmp_path / "t.xlsx").write_bytes(b"x")
    (tmp_path / "broken.parquet").write_bytes(b"x")
    for name in ("t.xlsx", "broken.parquet", "none.csv"):
        with pytest.raises(ModelError) as raised:
            column_names([tmp_path / name])
        assert raised.value.code == "MMF-601"


COHORT = cohort_toml('[demographics]\ntable = "t"\ncolumns = ["age", "year"]\n[gene.expression]\ntable = "t"')
STUDY = """
[study]
name = "referred"
seed = 5
[contract]
normalisation = "reference"
[contract.demographics.age]
kind = "number"
[contract.demographics.year]
kind = "number"
[contract.gene]
panel = ["TP53", "KRAS"]
[contract.gene.layers.expression]
[contract.survival]
bins = [365, 1000, 3000]
horizons = [365]
[[training.stages]]
level = "clinical"
rounds = 1
"""


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A folder with a public cohort, a pack without references, and a study."""
    KnowledgePack.assemble(["TP53", "KRAS"]).save(tmp_path / "pack.mmfk")
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "cohort.toml").write_text(COHORT)
    columns = {"id": [f"p{n}" for n in range(60)], "days": range(100, 3100, 50), "died": [0, 1] * 30}
    features = {"age": [52.0, 52.0, 74.0, 74.0] * 15, "year": [2004.4, 2010.4, 2010.4, 2004.4] * 15}
    genes = {"TP53": [7 * n % 60 for n in range(60)], "KRAS": [11 * n % 60 for n in range(60)]}
    pd.DataFrame(columns | features | genes).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path


def _reference(public: Path, *more: str) -> Result:
    arguments = ["reference", str(public / "pack.mmfk"), "--study", str(public / "study.toml")]
    arguments += ["--cohort", str(public), "--out", str(public / "out.mmfk"), *more]
    return CliRunner().invoke(app, arguments)


def test_clinical_references_are_told_to_people(public: Path) -> None:
    result = _reference(public)
    assert result.exit_code == 0, result.output
    _, sentence, lines = result.stdout.partition("Add these two keys to each column's section in the study:")
    assert sentence
    told = tomllib.loads(lines)["contract"]["demographics"]
    assert told == {
        "age": {"reference_mean": 63.0, "reference_deviation": 11.0},
        "year": {"reference_mean": 2007.4, "reference_deviation": 3.0},
    }
    added = STUDY
    for section in lines.strip().split("\n\n"):
        header, _, keys = section.partition("\n")
        added = added.replace(header, f"{header}\n{keys}")
    (public / "added.toml").write_text(added)
    assert Study.load(public / "added.toml").contract.columns["year"].reference_mean == 2007.4


def test_clinical_references_are_told_to_machines(public: Path) -> None:
    result = _reference(public, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["references"] == {"gene.expression": 2}
    assert told["sha256"] == KnowledgePack.load(public / "out.mmfk").sha256
    age, year = told["clinical"]
    assert (age["section"], age["column"], age["patients"]) == ("demographics", "age", 60)
    assert (year["mean"], year["deviation"]) == pytest.approx((2007.4, 3.0), rel=1e-4)


def test_a_fault_in_a_clinical_column_does_not_lose_the_pack(public: Path) -> None:
    table = pd.read_csv(public / "t.csv", dtype={"age": object})
    table.loc[3, "age"] = "old"
    table.to_csv(public / "t.csv", index=False)
    result = _reference(public)
    assert isinstance(result.exception, CohortError)
    assert sorted(KnowledgePack.load(public / "out.mmfk").references["gene.expression"]) == ["KRAS", "TP53"]
