"""The benchmarks: their patients, splits, and published figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import pandas as pd

from mmfed_client.cohort import Cohort
from mmfed_common.errors import DataError
from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_simulations.consortium import load_consortium

TEST, TRAIN = 0, 1
"""Folds of the published split: FLamby's test patients, and the others."""
ORIGINAL = {
    "Pooled Training": "pooled",
    "FedAvg100": "fedavg",
    "FedProx100": "fedprox",
    "FedAdam100": "fedadam",
}
"""FLamby's names of methods (100 local updates a round) → ours."""


@dataclass(frozen=True)
class Benchmark:
    """A published benchmark.

    Attributes
    ----------
    name
        As on the command line.
    task, metric
        The figure that was published.
    baseline
        The arm of a comparison that is the field's plain model.
    published
        File of published figures, below the data.
    prepare
        Makes of the data the folder of ``cohort.toml``'s tables, and patient → whether FLamby tests on it.
    """

    name: str
    task: str
    metric: str
    baseline: str
    published: str
    prepare: Callable[[Path, Path], tuple[Path, dict[str, bool]]]

    def open(self, data: Path, out: Path) -> Loaded:
        """Read patients and published figures.

        Raises
        ------
        DataError
            ``MMF-201`` when a file of the data is missing or cannot be read.
        CohortError
            ``MMF-200`` when the patients are not as the study needs them.
        """
        source = resources.files("mmfed_simulations.reproduction").joinpath(self.name.replace("-", "_"))
        folder = out / "cohort"
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("cohort.toml", "study.toml"):
            (folder / file).write_text(source.joinpath(file).read_text(encoding="utf-8"), encoding="utf-8")
        try:
            tables, tested = self.prepare(data, folder)
            published = pd.read_csv(data / self.published)
        except (OSError, KeyError, ValueError) as error:
            raise DataError("MMF-201", f"this is not the data of {self.name}: {error}", str(data)) from None
        study = Study.load(folder / "study.toml")
        loaded = load_consortium(folder, study, folder, tables)
        ids = loaded.cohort.patients.patient_ids
        folds = tuple(TEST if tested[name] else TRAIN for name in ids)
        return Loaded(self, study, replace(loaded.cohort, folds=folds), loaded.topology, published)


@dataclass(frozen=True)
class Loaded:
    """A benchmark whose data was read; the cohort's folds are the published split."""

    benchmark: Benchmark
    study: Study
    cohort: Cohort
    topology: Topology
    published: pd.DataFrame

    def figures(self, method: str) -> dict[str, float]:
        """Published figures: mean and deviation over seeds on all test patients, and the mean of the sites.

        Empty where nothing was published for a method.
        """
        rows = self.published[self.published["Method"].map(ORIGINAL) == method]
        if rows.empty:
            return {}
        row = rows.iloc[0]
        sites = [float(row[c]) for c in self.published.columns if c.startswith("mean_client_test_")]
        return {
            "pooled": float(row["mean_Pooled Test"]),
            "deviation": float(row["std_Pooled Test"]),
            "sites": sum(sites) / len(sites),
        }


def _tcga_brca(data: Path, folder: Path) -> tuple[Path, dict[str, bool]]:
    table = pd.read_parquet(data / "fed_tcga_brca.parquet", columns=["pid", "fold"])
    return data, dict(zip(table["pid"].astype(str), table["fold"] == "test", strict=True))


def _heart_disease(data: Path, folder: Path) -> tuple[Path, dict[str, bool]]:
    table = pd.read_csv(data / "uci_heart_disease_4centers.csv.gz")
    table = table[table["flamby_fold"].notna()]
    numbers = table.groupby("center").cumcount() + 1
    names = [f"{center}-{number:03d}" for center, number in zip(table["center"], numbers, strict=True)]
    tested = dict(zip(names, table["flamby_fold"] == "test", strict=True))
    unused = ["center", "slope", "ca", "thal", "num", "flamby_fold"]
    table.drop(columns=unused).assign(patient_id=names).to_csv(folder / "patients.csv", index=False)
    return folder, tested


BENCHMARKS: dict[str, Benchmark] = {
    b.name: b
    for b in (
        Benchmark(
            "fed-tcga-brca",
            "survival",
            "c_index",
            "cox_clinical",
            "published_flamby_results.csv",
            _tcga_brca,
        ),
        Benchmark(
            "fed-heart-disease",
            "response",
            "accuracy",
            "logistic_clinical",
            "published_flamby_heart_results.csv",
            _heart_disease,
        ),
    )
}
