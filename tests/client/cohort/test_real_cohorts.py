"""Real patients: NCCTG lung as lifelines ships it, and TCGA-LUAD with every modality that it has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import datasets

from mmfed_client.cohort import Cohort, check_cohort, load_cohort, load_description
from mmfed_common.contract import Contract
from mmfed_common.graph import build_topology

LUNG = """
[cohort]
id_column = "patient"
site_column = "inst"
[tables]
lung = "lung.csv"
[clinical]
columns = { age = "age", sex = "sex", ecog = "ph.ecog" }
[outcome.survival]
table = "lung"
time = "time"
event = "status"
unit = "days"
"""

LUNG_CONTRACT = Contract.model_validate(
    {
        "demographics": {
            "age": {"kind": "number", "minimum": 18, "maximum": 110},
            "sex": {"kind": "binary", "values": ["1", "2"]},
        },
        "clinical": {"ecog": {"kind": "ordinal", "values": ["0", "1", "2", "3", "4"]}},
        "survival": {"bins": [90, 180, 270, 365, 545, 730, 1095], "horizons": [365]},
    }
)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_ncctg_lung_passes_and_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    lung = datasets.load_lung().dropna(subset=["inst"]).reset_index(drop=True)
    lung.insert(0, "patient", [f"NCCTG-{i}" for i in range(len(lung))])
    lung.to_csv(tmp_path / "lung.csv", index=False)
    lung.to_parquet(tmp_path / "lung.parquet")
    (tmp_path / "cohort.toml").write_text(LUNG.replace("lung.csv", f"lung{suffix}"))
    topology = build_topology(LUNG_CONTRACT, None)
    cohort = load_cohort(load_description(tmp_path), LUNG_CONTRACT, topology)
    assert cohort.warnings == ()
    assert len(cohort.patients) == 227
    assert len(cohort.by_site()) == lung["inst"].nunique() == 18
    assert set(cohort.sites) == {str(int(i)) for i in lung["inst"]}
    outcomes, node = cohort.patients.outcomes, cohort.patients.nodes["clinical_feature"]
    np.testing.assert_array_equal(outcomes.time_days, lung["time"])
    np.testing.assert_array_equal(outcomes.event, lung["status"])
    np.testing.assert_array_equal(node.values[:, 0, 0], lung["age"])
    np.testing.assert_array_equal(node.values[:, 1, 0], lung["sex"] - 1)
    np.testing.assert_array_equal(node.values[:, 2, 0], lung["ph.ecog"].fillna(0))
    np.testing.assert_array_equal(node.present[:, 2, 0], lung["ph.ecog"].notna())


LUAD = """
[cohort]
id_column = "patient_id"
site_column = "fed_site"
fold_column = "cv_fold"
[tables]
clinical = "clinical.parquet"
expression = "expression.parquet"
cnv = "cnv.parquet"
mutation = "mutation.parquet"
rppa = "rppa.parquet"
hif = "imaging_hif.parquet"
[demographics]
columns = ["age", "sex"]
[gene.expression]
table = "expression"
[gene.cnv]
table = "cnv"
[gene.mutation]
table = "mutation"
[protein]
table = "rppa"
[imaging]
table = "hif"
[outcome.survival]
table = "clinical"
time = "os_days"
event = "os_event"
unit = "days"
[outcome.response]
table = "clinical"
column = "response"
"""


Frames = dict[str, pd.DataFrame]


def luad(
    shared_data: Path, tmp_path: Path, **features: str
) -> tuple[Path, Contract, dict[str, pd.DataFrame]]:
    """Describe TCGA-LUAD; ``features`` are further numeric columns, ``contract name = column``."""
    folder = shared_data / "tcga_multimodal" / "LUAD"
    files = ("clinical", "expression", "cnv", "mutation", "rppa", "imaging_hif")
    frames = {name: pd.read_parquet(folder / f"{name}.parquet").set_index("patient_id") for name in files}
    more = {name: {"kind": "number", "required": False} for name in features}
    contract = Contract.model_validate(
        {
            "demographics": {
                "age": {"kind": "number", "minimum": 0, "maximum": 120},
                "sex": {"kind": "binary", "values": ["female", "male"]},
            },
            "clinical": more,
            "gene": {
                "panel": list(frames["expression"].columns),
                "layers": {
                    "expression": {"clip": 5},
                    "cnv": {"minimum": -2, "maximum": 2},
                    "mutation": {"minimum": 0, "maximum": 1},
                },
            },
            "protein": {"panel": list(frames["rppa"].columns)},
            "imaging": {
                "features": list(frames["imaging_hif"].columns),
                "layer": {"transform": "signed_log1p"},
            },
            "survival": {"bins": [180, 365, 730, 1095, 1825, 3650]},
            "response": {
                "classes": ["none", "partial", "complete"],
                "aliases": {"CR": "complete", "PR": "partial", "SD": "none", "PD": "none"},
            },
        }
    )
    columns = "\n".join(f'{name} = "{column}"' for name, column in features.items())
    text = LUAD + (f"[clinical.columns]\n{columns}\n" if features else "")
    (tmp_path / "cohort.toml").write_text(text)
    return folder, contract, frames


def loaded(shared_data: Path, tmp_path: Path) -> tuple[Cohort, Frames]:
    folder, contract, frames = luad(shared_data, tmp_path)
    description = load_description(tmp_path, folder)
    return load_cohort(description, contract, build_topology(contract, None)), frames


@pytest.mark.shared_data
def test_luad_passes_and_is_read_exactly(shared_data: Path, tmp_path: Path) -> None:
    cohort, frames = loaded(shared_data, tmp_path)
    patients = cohort.patients
    known = frames["clinical"].dropna(subset=["os_days"])
    ids = [p for p in patients.patient_ids if p in known.index]
    assert len(ids) == len(known) == int(patients.outcomes.survival_known.sum()) == 513
    assert {f.code for f in cohort.warnings} <= {"MMF-221", "MMF-222"}
    assert len(cohort.by_site()) == 9
    gene = patients.nodes["gene"]
    for channel, layer in enumerate(("expression", "cnv", "mutation")):
        frame = frames[layer].reindex(index=patients.patient_ids, columns=frames["expression"].columns)
        expected = frame.clip(-5, 5).to_numpy(dtype=np.float32)
        np.testing.assert_array_equal(gene.present[:, :, channel], ~np.isnan(expected))
        np.testing.assert_array_equal(gene.values[:, :, channel], np.nan_to_num(expected))
    hif = frames["imaging_hif"].reindex(list(patients.patient_ids)).to_numpy(dtype=np.float64)
    expected = np.nan_to_num(np.sign(hif) * np.log1p(np.abs(hif)))
    np.testing.assert_allclose(patients.nodes["imaging_feature"].values[:, 0], expected, rtol=1e-5)
    np.testing.assert_array_equal(cohort.folds, frames["clinical"]["cv_fold"].loc[list(patients.patient_ids)])
    assert int((patients.outcomes.response == 2).sum()) == 301


@pytest.mark.shared_data
@pytest.mark.parametrize("column", ["cdr_os_time", "porpoise_survival_months", "cdr_os", "porpoise_event"])
def test_other_end_points_of_tcga_are_leaks(shared_data: Path, tmp_path: Path, column: str) -> None:
    folder, contract, _ = luad(shared_data, tmp_path, extra=column)
    description = load_description(tmp_path, folder)
    faults = check_cohort(description, contract, build_topology(contract, None), None)
    assert {(f.code, f.column) for f in faults if f.severity == "error"} == {("MMF-211", "extra")}
