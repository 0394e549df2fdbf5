"""The knowledge command, through Typer."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from mmfed_common.errors import ModelError
from mmfed_common.knowledge import KnowledgePack
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
