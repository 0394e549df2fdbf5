"""NCCTG advanced lung cancer: 228 real patients of 18 real institutions, from lifelines.

Loprinzi et al., Prospective evaluation of prognostic variables from patient-completed questionnaires, J Clin
Oncol 12(3):601-607, 1994. The table is public domain as part of R's ``survival``; lifelines (MIT) ships it.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lifelines.datasets import load_lung

from mmfed_common.errors import StudyError

COLUMNS = {
    "ph.ecog": "ecog",
    "ph.karno": "karnofsky_by_physician",
    "pat.karno": "karnofsky_by_patient",
    "meal.cal": "calories_at_meals",
    "wt.loss": "weight_loss",
    "time": "os_days",
    "status": "os_event",
}
UNKNOWN_INSTITUTION = "unknown"


def lung_table() -> pd.DataFrame:
    """The NCCTG table with plain column names: one row a patient, times in days, ``os_event`` 1 = died."""
    raw = load_lung()
    table = raw.rename(columns=COLUMNS)
    table["sex"] = np.where(raw["sex"] == 1, "male", "female")
    number = raw["inst"].astype("Int64").astype("string").str.zfill(2)
    table["institution"] = ("institution-" + number).fillna(UNKNOWN_INSTITUTION).astype(object)
    table.insert(0, "patient_id", [f"NCCTG-{i + 1:03d}" for i in range(len(table))])
    without: pd.DataFrame = table.drop(columns="inst")
    return without


def write_lung(out: Path) -> dict[str, Any]:
    """Write ``lung.csv``, ``cohort.toml`` and ``study.toml`` below ``out``.

    Returns
    -------
    dict
        What was written: paths, patients and events of each institution, where the data comes from.

    Raises
    ------
    StudyError
        ``MMF-503`` when ``out`` is not empty, ``MMF-508`` when it cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError("MMF-503", "a cohort is only written to a new or empty folder", str(out))
    table = lung_table()
    files = resources.files("mmfed_simulations.sources")
    try:
        out.mkdir(parents=True, exist_ok=True)
        table.to_csv(out / "lung.csv", index=False)
        for name in ("cohort", "study"):
            text = files.joinpath(f"lung_{name}.toml").read_text(encoding="utf-8")
            (out / f"{name}.toml").write_text(text, encoding="utf-8")
    except OSError as error:
        raise StudyError("MMF-508", f"cannot write: {error.strerror}", str(error.filename or out)) from None
    sites = [
        {"site": str(site), "patients": len(part), "events": int(part["os_event"].sum()), "lacks": []}
        for site, part in table.groupby("institution", sort=True)
    ]
    return {
        "cohort": str(out),
        "study": str(out / "study.toml"),
        "sites": sites,
        "origin": "NCCTG lung cancer (Loprinzi 1994), public domain, from the lifelines package (MIT)",
    }
