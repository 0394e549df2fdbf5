"""A made-up comparison: patients with a known hazard, arms that know more or less of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmfed_common.metrics import Censoring
from mmfed_common.study import Study
from mmfed_simulations.evaluation.calibrating.recalibration import recalibrate
from mmfed_simulations.evaluation.calibrating.temperature_effect import temperature_effect
from mmfed_simulations.evaluation.predictions import predicted_times, survival_column
from mmfed_simulations.evaluation.results import assemble_results, without_nan
from mmfed_simulations.evaluation.scores import Scoring

STUDY = Study.from_content(
    {
        "study": {"name": "example-lung", "seed": 11, "description": "A made-up study of six hospitals."},
        "contract": {
            "clinical": {"age": {"kind": "number"}},
            "survival": {"bins": [180.0, 365.25, 730.5, 1095.75, 1461.0, 1826.25, 2500.0]},
            "response": {},
            "toxicity": {"labels": ["neutropenia", "nausea"]},
        },
        "training": {"stages": [{"level": "clinical", "rounds": 2}]},
        "evaluation": {"bootstrap": 200},
    }
)
NOISE = {
    "federated": 0.5,
    "pooled": 0.45,
    "local": 1.5,
    "cox_clinical": 1.0,
    "ridge_all": 0.6,
    "only_gene": 2.0,
}


def example_predictions(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """Six arms, five folds, six sites of different size; the last site's patients lack a local model."""
    random = np.random.default_rng(seed)
    log_hazard = random.normal(0, 1.0, n)
    death = random.exponential(1500 * np.exp(-log_hazard))
    follow_up = random.uniform(300, 3000, n)
    time, event = np.minimum(death, follow_up), (death <= follow_up).astype(float)
    site = random.choice(
        ["north", "south", "east", "west", "harbour", "hill"], n, p=[0.3, 0.3, 0.15, 0.15, 0.08, 0.02]
    )
    truth = np.where(random.random(n) < 0.8, random.choice(["none", "partial", "complete"], n), "")
    toxicity = random.random((n, 2)) < 0.3
    times = predicted_times(STUDY.contract)
    frames = []
    for arm, noise in NOISE.items():
        risk = log_hazard + random.normal(0, noise, n)
        calm = risk / (1 + noise**2)
        frame = pd.DataFrame({"arm": arm, "fold": (np.arange(n) % 5).astype(str), "site": site})
        frame["patient_id"] = [f"p{k:04d}" for k in range(n)]
        frame["time_days"], frame["event"], frame["risk_score"] = time, event, risk
        frame["modalities"] = np.where(np.arange(n) % 3 == 0, "clinical_feature", "clinical_feature+gene")
        for days in times:
            frame[survival_column(days)] = np.exp(-(days / 1500) * np.exp(calm))
        if not arm.startswith(("cox", "ridge")):
            chance = random.dirichlet(np.ones(3), n)
            chance[
                np.arange(n),
                pd.Series(truth).map({"none": 0, "partial": 1, "complete": 2}).fillna(0).astype(int),
            ] += 1 / noise
            for k, name in enumerate(("none", "partial", "complete")):
                frame[f"response_{name}"] = chance[:, k] / chance.sum(axis=1)
        frame["response_true"] = truth
        for k, name in enumerate(("neutropenia", "nausea")):
            frame[f"toxicity_true_{name}"] = toxicity[:, k].astype(float)
            frame[f"toxicity_{name}"] = np.clip(toxicity[:, k] * 0.2 + random.random(n) * 0.8, 0, 1)
        frames.append(frame[frame["site"] != "hill"] if arm == "local" else frame)
    return pd.concat(frames, ignore_index=True)


def training_parts(predictions: pd.DataFrame) -> dict[str, Censoring]:
    """Each fold's training part: everybody else."""
    everyone = predictions[predictions["arm"] == "federated"]
    parts = {}
    for fold in everyone["fold"].unique():
        rest = everyone[everyone["fold"] != fold]
        parts[str(fold)] = Censoring(rest["time_days"].to_numpy(float), rest["event"].to_numpy(float) == 1)
    return parts


def example_rounds() -> list[dict[str, Any]]:
    """Losses of five folds over two stages."""
    random = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    for fold in range(5):
        level = 2.2 + 0.1 * random.normal()
        for number in range(1, 41):
            gain = 0.5 * (1 - np.exp(-number / 8)) + (
                0.15 * (1 - np.exp(-(number - 20) / 6)) if number > 20 else 0
            )
            held_out = level - 0.8 * gain + 0.02 * random.normal() if number % 5 == 0 else None
            rows.append(
                {
                    "fold": fold,
                    "round": number,
                    "stage": "clinical" if number <= 20 else "full",
                    "train_loss": level - gain + 0.01 * random.normal(),
                    "held_out_loss": held_out,
                }
            )
    return rows


def example_results(predictions: pd.DataFrame | None = None) -> dict[str, Any]:
    """Every figure of the made-up comparison."""
    raw = example_predictions() if predictions is None else predictions
    calibrated = recalibrate(STUDY, raw)
    frame = calibrated.predictions
    sites = [
        {
            "site": name,
            "patients": n,
            "train": n - n // 5,
            "test": n // 5,
            "seconds": 1.5 * n,
            "bytes_up": 41_000 * n,
        }
        | {"bytes_down": 52_000 * n, "epsilon": None, "status": status}
        for name, n, status in (
            ("east", 45, ""),
            ("harbour", 24, ""),
            ("hill", 6, "below the floor of 5 training patients: it did not train (MMF-219)"),
            ("north", 90, ""),
            ("south", 90, ""),
            ("west", 45, ""),
        )
    ]
    results = assemble_results(
        STUDY,
        Scoring(STUDY, frame, training_parts(frame)),
        kind="compare",
        held_out="Five folds: every patient was held out once, and never trained the model that scored them.",
        sites=sites,
        timing={"training": 321.0, "scoring": 12.2},
        rounds=example_rounds(),
        notes=["The local arm is scored on 296 of 300 patients: one site is too small to train alone."],
        fitted=calibrated.fitted,
    )
    results["temperature"] = without_nan(temperature_effect(STUDY, raw, training_parts(raw)))
    return results
