"""Published benchmarks: the split is the published one, and the figures stand beside the published ones."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmfed_common.errors import CohortError, DataError
from mmfed_simulations.cli import program
from mmfed_simulations.reproduction.benchmarks import BENCHMARKS, TEST
from mmfed_simulations.reproduction.methods import LABELS, method_names
from mmfed_simulations.reproduction.trials import reproduce

HEART = BENCHMARKS["fed-heart-disease"]


def heart_data(folder: Path) -> Path:
    """Patients in the published form, of whom the older are ill, and published figures."""
    draw = np.random.default_rng(3)
    rows = 240
    age = draw.integers(30, 80, rows)
    table = pd.DataFrame({"center": np.arange(rows) % 4, "age": age.astype(float)})
    table["institution"] = "hospital-" + table["center"].astype(str)
    table["sex"], table["cp"] = draw.integers(0, 2, rows), draw.integers(1, 5, rows).astype(float)
    for name, low, high in (("trestbps", 100, 180), ("chol", 150, 300), ("thalach", 90, 180)):
        table[name] = draw.integers(low, high, rows).astype(float)
    table["fbs"], table["exang"] = draw.integers(0, 2, rows), draw.integers(0, 2, rows)
    table["restecg"], table["oldpeak"] = draw.integers(0, 3, rows).astype(float), draw.normal(1, 1, rows)
    table["slope"] = table["ca"] = table["thal"] = np.nan
    table["disease"] = (age + draw.normal(0, 4, rows) > 55).astype(int)
    table["num"] = table["disease"]
    table["flamby_fold"] = np.where(np.arange(rows) % 3 == 0, "test", "train")
    table.loc[:3, "flamby_fold"] = np.nan
    folder.mkdir(parents=True)
    table.to_csv(folder / "uci_heart_disease_4centers.csv.gz", index=False)
    figures = {"Method": ["Pooled Training", "FedAvg100"], "std_Pooled Test": [0.01, 0.02]}
    figures |= {f"mean_{c}": [0.8, 0.7] for c in ("Pooled Test", "client_test_0", "client_test_1")}
    pd.DataFrame(figures).to_csv(folder / HEART.published, index=False)
    return folder


def test_every_method_stands_beside_what_was_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", HEART.name, "--data", str(heart_data(tmp_path / "data")), "--workers", "1"]
    words += ["--out", str(tmp_path / "out"), "--seeds", "1", "--partitions", "0"]
    assert program.run([*words, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    split = {row["method"]: row for row in content["split"]}
    assert list(split) == method_names(HEART)
    assert split["ours"]["figure"]["n"] == 78  # a third of 240, less two that FLamby does not use
    accuracy = {method: row["figure"]["estimate"] for method, row in split.items()}
    assert accuracy["ours"] > 0.85
    assert accuracy["ours"] == pytest.approx(accuracy["pooled"], abs=0.02)
    assert split["ours"]["sites_mean"] == pytest.approx(
        np.mean([site["accuracy"] for site in split["ours"]["sites"].values()])
    )
    assert content["published"]["pooled"] == {"pooled": 0.8, "deviation": 0.01, "sites": 0.8}
    assert content["published"]["ours"] == {}
    assert content == json.loads((tmp_path / "out" / "reproduced.json").read_text())
    assert program.run(words) == 0  # nothing is trained again
    shown = (tmp_path / "out" / "reproduced.txt").read_text()
    assert "0.800 ± 0.010" in shown
    assert all(LABELS[method] in shown for method in method_names(HEART))


def test_every_patient_is_tested_once_in_each_partition(tmp_path: Path) -> None:
    loaded = HEART.open(heart_data(tmp_path / "data"), tmp_path / "out")
    stages = [stage.model_dump(mode="json") | {"rounds": 5} for stage in loaded.study.training.stages]
    short = loaded.study.with_changes(training={"stages": stages}, evaluation={"folds": 2})
    found = reproduce(replace(loaded, study=short), tmp_path / "out", seeds=1, partitions=2, workers=1)
    assert [row.method for row in found.partitions] == method_names(HEART)
    assert {row.figure.n for row in found.partitions} == {236}
    assert all(row.spread is not None for row in found.partitions)
    assert any(row.spread for row in found.partitions)  # other folds, other figures


def test_other_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        HEART.open(tmp_path, tmp_path / "out")
    assert caught.value.code == "MMF-201"
    data = heart_data(tmp_path / "data")
    table = pd.read_csv(data / "uci_heart_disease_4centers.csv.gz")
    table["age"] = table["age"] + 100
    table.to_csv(data / "uci_heart_disease_4centers.csv.gz", index=False)
    with pytest.raises(CohortError) as refused:
        HEART.open(data, tmp_path / "again")
    assert {fault.code for fault in refused.value.faults} == {"MMF-206"}


@pytest.mark.parametrize(
    ("name", "folder", "tested"),
    [
        (
            "fed-tcga-brca",
            "fed_tcga_brca",
            {"Northeast": 63, "South": 40, "West": 42, "Midwest": 33, "Europe": 33, "Canada": 11},
        ),
        ("fed-heart-disease", "cardio", None),
    ],
)
def test_the_split_is_the_published_one(
    name: str, folder: str, tested: dict[str, int] | None, shared_data: Path, tmp_path: Path
) -> None:
    loaded = BENCHMARKS[name].open(shared_data / folder, tmp_path)
    cohort = loaded.cohort
    assert cohort.folds is not None
    found = Counter(site for site, fold in zip(cohort.sites, cohort.folds, strict=True) if fold == TEST)
    if tested is None:
        assert sorted(found.values()) == [16, 45, 89, 104]
        assert len(cohort.patients) == 740
    else:
        assert dict(found) == tested
        assert len(cohort.patients) == 1088
    assert loaded.figures("pooled")["pooled"] == pytest.approx(0.704 if tested else 0.795, abs=6e-4)
