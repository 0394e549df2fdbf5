"""A small cohort with every kind of table, which each test spoils in its own way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmfed_client.cohort import Cohort, CohortDescription, check_cohort, load_cohort, load_description
from mmfed_common.contract import Contract
from mmfed_common.errors import Fault
from mmfed_common.graph import build_topology
from mmfed_common.knowledge.symbols import SymbolTable

GENES = ("KMT2A", "TP53", "EGFR", "MARCHF1")
SYMBOLS = SymbolTable.build(
    GENES, [("MLL", "KMT2A"), ("ALL1", "KMT2A"), ("P53", "TP53"), ("MARCH1", "MARCHF1")]
)
PATIENTS = 60

CONTRACT: dict[str, Any] = {
    "demographics": {
        "age": {"kind": "number", "unit": "years", "minimum": 0, "maximum": 120},
        "sex": {"kind": "binary", "values": ["female", "male"], "aliases": {"f": "female", "m": "male"}},
    },
    "clinical": {
        "stage": {"kind": "ordinal", "values": ["I", "II", "III", "IV"], "missing": ["stage x"]},
        "site_of_origin": {"kind": "category", "values": ["left", "right", "both"]},
        "smoker": {"kind": "binary", "required": False},
    },
    "gene": {
        "panel": list(GENES),
        "layers": {"expression": {"minimum": 0, "maximum": 1000, "transform": "log1p"}},
    },
    "protein": {"panel": ["AKT", "AKT_pS473"]},
    "imaging": {"features": ["area", "texture"], "maximum_tiles": 3, "neighbours": 2},
    "survival": {"bins": [180, 365, 730, 1095, 1825, 3650]},
    "response": {"classes": ["none", "partial", "complete"], "aliases": {"CR": "complete"}},
    "toxicity": {"labels": ["neutropenia", "nausea"]},
}

DESCRIPTION: dict[str, Any] = {
    "cohort": {"id_column": "patient_id", "site_column": "hospital", "fold_column": "fold"},
    "tables": {},
    "demographics": {"columns": ["age", "sex"]},
    "clinical": {"table": "clinical", "columns": ["stage", "site_of_origin", "smoker"]},
    "gene": {"expression": {"table": "expression"}},
    "protein": {"table": "protein"},
    "imaging": {"table": "imaging", "x": "x", "y": "y"},
    "outcome": {
        "survival": {"table": "clinical", "time": "days", "event": "dead", "unit": "days"},
        "response": {"table": "clinical", "column": "response"},
        "toxicity": {"table": "toxicity", "columns": ["neutropenia", "nausea"]},
    },
}


def frames() -> dict[str, pd.DataFrame]:
    """Make the tables: plausible, complete, without a relation to any outcome."""
    draw = np.random.default_rng(7)
    ids = [f"P{i:03d}" for i in range(PATIENTS)]
    clinical = pd.DataFrame(
        {
            "patient_id": ids,
            "hospital": np.where(np.arange(PATIENTS) < 40, "south", "north"),
            "fold": np.arange(PATIENTS) % 5,
            "age": draw.integers(30, 85, PATIENTS),
            "sex": draw.choice(["female", "male"], PATIENTS),
            "stage": draw.choice(["I", "II", "III", "IV"], PATIENTS),
            "site_of_origin": draw.choice(["left", "right", "both"], PATIENTS),
            "smoker": draw.integers(0, 2, PATIENTS),
            "days": np.round(draw.weibull(1.2, PATIENTS) * 900) + 5,
            "dead": draw.integers(0, 2, PATIENTS),
            "response": draw.choice(["none", "partial", "complete"], PATIENTS),
        }
    )
    expression = pd.DataFrame({"patient_id": ids} | {g: draw.gamma(2.0, 20.0, PATIENTS) for g in GENES})
    protein = pd.DataFrame(
        {"patient_id": ids} | {p: draw.normal(size=PATIENTS) for p in ("AKT", "AKT_pS473")}
    )
    tiles = pd.DataFrame({"patient_id": np.repeat(ids, 2)})
    for name in ("area", "texture"):
        tiles[name] = draw.normal(size=2 * PATIENTS)
    tiles["x"], tiles["y"] = np.tile([0.0, 1.0], PATIENTS), 0.0
    toxicity = pd.DataFrame({"patient_id": ids})
    for name in ("neutropenia", "nausea"):
        toxicity[name] = draw.integers(0, 2, PATIENTS)
    return {
        "clinical": clinical,
        "expression": expression,
        "protein": protein,
        "imaging": tiles,
        "toxicity": toxicity,
    }


@dataclass
class SmallCohort:
    """Tables, description and contract, to be changed before they are written and read."""

    folder: Path
    frames: dict[str, pd.DataFrame] = field(default_factory=frames)
    description: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(DESCRIPTION)))
    contract: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(CONTRACT)))
    suffix: str = ".csv"

    @property
    def clinical(self) -> pd.DataFrame:
        return self.frames["clinical"]

    def set(self, table: str, column: str, rows: int | list[int], value: object) -> None:
        """Overwrite cells; the column becomes one of Python objects."""
        frame = self.frames[table]
        frame[column] = frame[column].astype(object)
        frame.loc[rows, column] = value

    def write(self) -> CohortDescription:
        for name, frame in self.frames.items():
            file = self.folder / f"{name}{self.suffix}"
            if self.suffix == ".parquet":
                frame.to_parquet(file)
            elif self.suffix == ".feather":
                frame.to_feather(file)
            else:
                frame.to_csv(file, index=False)
            self.description["tables"].setdefault(name, file.name)
        (self.folder / "cohort.toml").write_text(_toml(self.description))
        return load_description(self.folder)

    def check(self, symbols: SymbolTable | None = SYMBOLS) -> list[Fault]:
        contract = Contract.model_validate(self.contract)
        return check_cohort(self.write(), contract, build_topology(contract, None), symbols)

    def load(self, symbols: SymbolTable | None = SYMBOLS) -> Cohort:
        contract = Contract.model_validate(self.contract)
        return load_cohort(self.write(), contract, build_topology(contract, None), symbols)


def _toml(content: dict[str, Any], prefix: str = "") -> str:
    """Write nested tables as TOML; JSON's scalars, lists and strings are TOML's."""
    plain = {k: v for k, v in content.items() if not isinstance(v, dict)}
    lines = [f"[{prefix}]"] if prefix else []
    lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in plain.items()]
    for key, value in content.items():
        if isinstance(value, dict):
            lines.append(_toml(value, f"{prefix}.{json.dumps(key)}" if prefix else json.dumps(key)))
    return "\n".join(lines)


@pytest.fixture
def small(tmp_path: Path) -> SmallCohort:
    """A sound small cohort."""
    return SmallCohort(tmp_path)


@pytest.fixture
def errors() -> Callable[[list[Fault]], set[str]]:
    """Codes of the faults that stop a study."""
    return lambda faults: {fault.code for fault in faults if fault.severity == "error"}
