"""A wide table is read without doubling memory, and in reasonable time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

MEBIBYTE = 2**20
CONSTANT = 100 * MEBIBYTE
"""Blocks being read, file metadata, and what Python and pandera need for their own."""

CHILD = """
import json, sys, time
from pathlib import Path
from mmfed_client.cohort import load_cohort, load_description
from mmfed_common.contract import Contract
from mmfed_common.graph import build_topology

def high_water():
    line = next(l for l in open("/proc/self/status") if l.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

folder, genes = Path(sys.argv[1]), int(sys.argv[2])
contract = Contract.model_validate({
    "gene": {"panel": [f"G{i}" for i in range(genes)], "layers": {"expression": {"minimum": -50, "clip": 5}}},
    "survival": {"bins": [365, 1095, 3650]},
})
topology = build_topology(contract, None)
before, start = high_water(), time.process_time()
cohort = load_cohort(load_description(folder), contract, topology)
node = cohort.patients.nodes["gene"]
print(json.dumps({
    "extra": high_water() - before, "seconds": time.process_time() - start, "shape": list(node.values.shape),
    "last": node.values[3, -1, 0].item(), "present": bool(node.present.all()),
}))
"""

DESCRIPTION = """
[cohort]
id_column = "patient_id"
[tables]
clinical = "clinical.csv"
expression = "expression{suffix}"
[gene.expression]
table = "expression"
[outcome.survival]
table = "clinical"
time = "days"
event = "dead"
unit = "days"
"""


def measured(folder: Path, genes: int, patients: int, suffix: str) -> tuple[dict[str, float], float]:
    """Write a table of random numbers, load it in a process of its own, and say what that took.

    Seconds are those of the processor, all threads together: a busy machine does not make them more.
    """
    rng = np.random.default_rng(1)
    ids = [f"P{i}" for i in range(patients)]
    columns = {"patient_id": pa.array(ids)}
    columns |= {
        f"G{i}": pa.array(rng.standard_normal(patients, dtype=np.float32).round(3)) for i in range(genes)
    }
    columns |= {f"unwanted{i}": pa.array(np.zeros(patients)) for i in range(10)}
    table = pa.table(columns)
    file = folder / f"expression{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, file, compression="none", use_dictionary=False, write_statistics=False)
    elif suffix == ".feather":
        feather.write_feather(table, file)
    else:
        pacsv.write_csv(table, file)
    days, dead = rng.exponential(900, patients).round() + 1, rng.integers(0, 2, patients)
    clinical = pa.table({"patient_id": ids, "days": days, "dead": dead})
    pacsv.write_csv(clinical, folder / "clinical.csv")
    (folder / "cohort.toml").write_text(DESCRIPTION.format(suffix=suffix))
    last = float(columns[f"G{genes - 1}"][3].as_py())
    del columns, table
    command = [sys.executable, "-c", CHILD, str(folder), str(genes)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout), last


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")
@pytest.mark.parametrize("suffix", [pytest.param(".parquet", marks=pytest.mark.e2e), ".feather"])
def test_a_wide_table_does_not_double_memory(tmp_path: Path, suffix: str) -> None:
    genes, patients = 8_000, 2_000
    found, last = measured(tmp_path, genes, patients, suffix)
    assert found["shape"] == [patients, genes, 1]
    assert found["present"]
    assert found["last"] == pytest.approx(last, rel=1e-5)
    assert found["extra"] < 2 * genes * patients * 4 + CONSTANT


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")
def test_a_long_csv_table_does_not_double_memory(tmp_path: Path) -> None:
    genes, patients = 2_000, 6_000
    found, last = measured(tmp_path, genes, patients, ".csv")
    assert found["last"] == pytest.approx(last, rel=1e-5)
    assert found["extra"] < 2 * genes * patients * 4 + CONSTANT


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")
def test_twenty_thousand_genes_of_five_thousand_patients(tmp_path: Path) -> None:
    genes, patients = 20_000, 5_000
    found, last = measured(tmp_path, genes, patients, ".parquet")
    print(found)
    assert found["shape"] == [patients, genes, 1]
    assert found["last"] == pytest.approx(last, rel=1e-5)
    assert found["extra"] < 2 * genes * patients * 4
    assert found["seconds"] < 240
