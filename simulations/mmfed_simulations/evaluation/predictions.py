"""The table of predictions: one row for each arm and held-out patient, truths beside predictions.

Columns: ``arm``, ``fold``, ``site``, ``patient_id``; ``modalities`` that the patient has, joined by ``+``;
``time_days``, ``event`` (missing where unknown), ``risk_score`` (higher: earlier death expected),
``survival_<days>``, and in a comparison ``survival_lower_90`` (days that 90 % of patients live at least);
``response_true`` (class name, empty where unknown), ``response_<class>``; ``toxicity_true_<label>`` (missing
where unknown), ``toxicity_<label>``.
It holds patients' outcomes, so it is written only where the run's owner holds the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmfed_common.contract import Contract
from mmfed_common.durable import replace_durably
from mmfed_common.metrics import evaluation_times
from mmfed_common.metrics.estimate import Floats
from mmfed_common.model import Predictions
from mmfed_common.patients import PatientTensors
from mmfed_common.tasks import survival

KEYS = ["arm", "fold", "site", "patient_id"]
MODALITIES = "modalities"
LOWER_BOUND = "survival_lower_90"
"""Days; the patient's bound may be the longest that can be told: "at least so long"."""


def survival_column(days: float) -> str:
    """Name of the column with the probability of being alive after so many days."""
    return f"survival_{days:.10g}"


def scored_times(contract: Contract) -> Floats:
    """Times at which Brier scores are taken; see :func:`.metrics.evaluation_times`."""
    if contract.survival is None:
        return np.zeros(0)
    return evaluation_times(contract.survival.bins, contract.survival.horizons)


def predicted_times(contract: Contract) -> Floats:
    """Times at which survival is predicted: every edge of the bins, and the horizons; days."""
    if contract.survival is None:
        return np.zeros(0)
    return np.array(sorted({*map(float, contract.survival.bins), *map(float, contract.survival.horizons)}))


def truth_frame(
    contract: Contract, patients: PatientTensors, sites: Sequence[str], *, arm: str, fold: int | str
) -> pd.DataFrame:
    """Keys and true outcomes of some patients, in their order; ``sites`` names each patient's site."""
    outcomes = patients.outcomes
    frame = pd.DataFrame(
        {"arm": arm, "fold": fold, "site": list(sites), "patient_id": list(patients.patient_ids)}
    )
    frame["fold"] = frame["fold"].astype(str)
    frame[MODALITIES] = modalities_of(patients)
    if contract.survival is not None:
        known = outcomes.survival_known.numpy().astype(bool)
        frame["time_days"] = np.where(known, outcomes.time_days.double().numpy(), np.nan)
        frame["event"] = np.where(known, outcomes.event.double().numpy(), np.nan)
    if contract.response is not None:
        names = np.array([*contract.response.classes, ""])
        frame["response_true"] = names[outcomes.response.numpy()]
    if contract.toxicity is not None:
        for column, label in enumerate(contract.toxicity.labels):
            known = outcomes.toxicity_known[:, column].numpy().astype(bool)
            truth = outcomes.toxicity[:, column].double().numpy()
            frame[f"toxicity_true_{label}"] = np.where(known, truth, np.nan)
    return frame


def modalities_of(patients: PatientTensors) -> list[str]:
    """Each patient's modalities of the study, joined by ``+``, e.g. ``clinical_feature+gene``."""
    has = {name: node.has_modality().tolist() for name, node in patients.nodes.items()}
    return ["+".join(name for name in has if has[name][k]) for k in range(len(patients))]


def add_survival(frame: pd.DataFrame, contract: Contract, risk: Floats, alive: Floats) -> pd.DataFrame:
    """Add risk scores ``(patients,)`` and survival ``(patients, times)`` at :func:`predicted_times`."""
    columns = {survival_column(days): alive[:, k] for k, days in enumerate(predicted_times(contract))}
    return pd.concat([frame, pd.DataFrame({"risk_score": risk, **columns}, index=frame.index)], axis=1)


def network_frame(
    contract: Contract,
    patients: PatientTensors,
    sites: Sequence[str],
    predictions: Predictions,
    *,
    arm: str,
    fold: int | str,
) -> pd.DataFrame:
    """Turn what the network says about some patients into rows of the table."""
    frame = truth_frame(contract, patients, sites, arm=arm, fold=fold)
    if contract.survival is not None and predictions.hazard_logits is not None:
        bins = contract.survival.bins
        logits = predictions.hazard_logits.detach().cpu()
        alive = survival.survival_at(logits, bins, tuple(predicted_times(contract).tolist()))
        risk = survival.risk_score(logits, bins)
        frame = add_survival(frame, contract, risk.double().numpy(), alive.double().numpy())
    if contract.response is not None and predictions.response_logits is not None:
        chance = predictions.response_logits.detach().cpu().double().softmax(dim=1).numpy()
        for column, name in enumerate(contract.response.classes):
            frame[f"response_{name}"] = chance[:, column]
    if contract.toxicity is not None and predictions.toxicity_logits is not None:
        chance = predictions.toxicity_logits.detach().cpu().double().sigmoid().numpy()
        for column, name in enumerate(contract.toxicity.labels):
            frame[f"toxicity_{name}"] = chance[:, column]
    return frame


def write_predictions(frame: pd.DataFrame, path: Path) -> None:
    """Write the table so that no reader ever sees half of it."""
    replace_durably(path, lambda file: frame.to_parquet(file, index=False))


def survival_matrix(frame: pd.DataFrame, times_days: Sequence[float] | Floats) -> Floats:
    """``(patients, times)`` predicted survival of some rows."""
    return frame[[survival_column(float(t)) for t in times_days]].to_numpy(np.float64)


def known_survival(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows have an outcome and a prediction of survival."""
    if "risk_score" not in frame or "time_days" not in frame:
        return np.zeros(len(frame), dtype=np.bool_)
    known: npt.NDArray[np.bool_] = (frame["time_days"].notna() & frame["risk_score"].notna()).to_numpy(
        np.bool_
    )
    return known
