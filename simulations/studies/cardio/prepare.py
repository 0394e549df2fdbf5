"""Write the cardiac cohorts and their studies into a folder.  usage: prepare.py DATA OUT

DATA holds the public tables (``whas500.csv.gz``, ``heart_failure_clinical_records.csv``,
``uci_heart_disease_4centers.csv.gz``), which name no patients: here they get names, in the order of the rows.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mmfed_common.heldout import hash_fraction
from mmfed_simulations.reproduction.benchmarks import BENCHMARKS

HERE = Path(__file__).parent
SEED = 20261121


def named(table: pd.DataFrame, prefix: str, sites: int, sexes: Mapping[int, str]) -> pd.DataFrame:
    """Add names of patients and sites by a hash of them; write the sex in words.

    Parameters
    ----------
    table
        One row a patient, its sex in column ``sex``.
    sexes
        What the numbers of ``sex`` mean.
    """
    names = [f"{prefix}-{number:03d}" for number in range(1, len(table) + 1)]
    groups = [f"site-{int(hash_fraction(SEED, name, 'site') * sites) + 1}" for name in names]
    return table.assign(patient_id=names, site=groups, sex=table["sex"].map(sexes))


def prepare(data: Path, out: Path) -> None:
    """Write ``whas500/``, ``heart_failure/`` and ``heart_disease/``, each with tables, cohort and study."""
    heart_attack = pd.read_csv(data / "whas500.csv.gz").rename(columns={"gender": "sex"})
    failing = pd.read_csv(data / "heart_failure_clinical_records.csv")
    failing = failing.rename(columns={"time": "time_days", "DEATH_EVENT": "event"})
    for name, table in {
        "whas500": named(heart_attack, "whas", 4, {0: "male", 1: "female"}),
        "heart_failure": named(failing, "failure", 3, {0: "female", 1: "male"}),
    }.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        table.to_csv(out / name / "patients.csv", index=False)
        for file in ("cohort.toml", "study.toml"):
            shutil.copyfile(HERE / name / file, out / name / file)
    hospitals = BENCHMARKS["fed-heart-disease"].open(data, out / "reproduced")
    (out / "reproduced" / "cohort").rename(out / "heart_disease")
    (out / "reproduced").rmdir()
    print(f"{len(heart_attack)}, {len(failing)} and {len(hospitals.cohort.patients)} patients in {out}")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
