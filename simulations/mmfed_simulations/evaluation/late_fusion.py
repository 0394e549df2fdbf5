"""Late fusion: the mean of what single-modality models say, each on the scale of its training patients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mmfed_common.patients import PatientTensors
from mmfed_simulations.evaluation.arm_names import SINGLE_PREFIX
from mmfed_simulations.evaluation.arms import ArmResult


def late_fusion(
    singles: Mapping[str, pd.DataFrame],
    scale: Mapping[str, Mapping[str, float]],
    patients: PatientTensors,
) -> pd.DataFrame:
    """Fuse the single-modality models of one fold.

    A patient's risk score is the mean over the modalities that the patient has of the model's risk score,
    less its mean and divided by its deviation among the training patients. Survival is the mean of the
    same models' curves. A patient who has none of the modalities gets the mean of all models.

    Parameters
    ----------
    singles
        Node type → rows of that modality's model.
    scale
        Node type → ``mean`` and ``deviation`` of its risk scores among the training patients.
    patients
        The cohort, which tells who has which modality.
    """
    place = {patient: k for k, patient in enumerate(patients.patient_ids)}
    ordered = {
        name: rows.sort_values("patient_id", kind="stable").reset_index(drop=True)
        for name, rows in singles.items()
    }
    first = next(iter(ordered.values()))
    index = np.array([place[p] for p in first["patient_id"]])
    weight = np.stack([patients.nodes[name].has_modality().numpy()[index] for name in ordered]).astype(float)
    weight[:, weight.sum(axis=0) == 0] = 1.0
    weight /= weight.sum(axis=0)
    columns = [str(column) for column in first.columns]
    others = [c for c in columns if c.startswith(("response_", "toxicity_")) and "_true" not in c]
    fused = first.drop(columns=others)
    risk = [
        (rows["risk_score"] - scale[name]["mean"]) / scale[name]["deviation"]
        for name, rows in ordered.items()
    ]
    fused["risk_score"] = (weight * np.stack(risk)).sum(axis=0)
    for column in [c for c in columns if c.startswith("survival_")]:
        fused[column] = (weight * np.stack([rows[column] for rows in ordered.values()])).sum(axis=0)
    return fused.assign(arm="late_fusion")


def fused_arms(singles: Mapping[str, ArmResult], patients: PatientTensors) -> pd.DataFrame:
    """Fuse what the single-modality arms gave in one fold; see :func:`late_fusion`.

    Parameters
    ----------
    singles
        Arm, ``"only_…"`` → its result.
    """
    named = {arm.removeprefix(SINGLE_PREFIX): result for arm, result in singles.items()}
    scale = {name: result.facts["training_risk"] for name, result in named.items()}
    return late_fusion({name: result.rows for name, result in named.items()}, scale, patients)
