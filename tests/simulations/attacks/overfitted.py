"""A study that learns its patients by heart: many meaningless genes, labels drawn at random, no brake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mmfed_client.cohort import Cohort
from mmfed_common.bundle import Bundle, load_bundle
from mmfed_common.graph import build_topology
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.study import Study
from mmfed_simulations.attacks.shadows import Patients
from mmfed_simulations.evaluation.run_results import finish_run
from mmfed_simulations.run import run_study

GENES = tuple(f"G{k}" for k in range(40))
STUDY = Study.from_content(
    {
        "study": {"name": "overfitted", "seed": 11},
        "contract": {
            "normalisation": "reference",
            "clinical": {
                "age": {"kind": "number", "reference_mean": 0.0, "reference_deviation": 1.0},
                "sex": {"kind": "binary"},
                "stage": {
                    "kind": "ordinal",
                    "values": ["I", "II", "III"],
                    "reference_mean": 1.0,
                    "reference_deviation": 0.8,
                },
                "site_of_tumour": {"kind": "category", "values": ["a", "b", "c"]},
            },
            "gene": {"panel": GENES, "layers": {"expression": {}}},
            "survival": {"bins": [200.0, 400.0, 800.0], "horizons": [400.0]},
            "response": {"classes": ["none", "partial", "complete"]},
        },
        "model": {
            "hidden": 8,
            "heads": 2,
            "layers": 1,
            "fusion_layers": 1,
            "kernel": "plain",
            "dropout": 0.0,
            "modality_dropout": 0.0,
        },
        "training": {
            "batch": 16,
            "local_epochs": 4,
            "stages": [
                {
                    "level": "additive",
                    "rounds": 12,
                    "trains": ["clinical", "additive"],
                    "learning_rate": 0.05,
                }
            ],
        },
        "aggregation": {"minimum_sites": 2, "minimum_patients": 5},
        "evaluation": {"rule": "hash", "fraction": 0.5, "bootstrap": 20, "every": 0},
    }
)


def patients(n: int = 150, sites: int = 3, seed: int = 0) -> Patients:
    """Patients whose outcomes have nothing to do with what is known of them."""
    draw = np.random.default_rng(seed)
    sex, stage, place = draw.integers(0, 2, n), draw.integers(0, 3, n), draw.integers(0, 3, n)
    clinical = np.stack([draw.normal(size=n), sex, place == 1, place == 2, stage], axis=1)
    order = [
        list(STUDY.contract.clinical_features()).index(f)
        for f in ("age", "sex", "site_of_tumour=b", "site_of_tumour=c", "stage")
    ]
    placed = np.zeros_like(clinical)
    placed[:, order] = clinical
    genes = draw.normal(size=(n, len(GENES)))
    time, limit = draw.exponential(500.0, n) + 1, draw.uniform(300, 1200, n)
    outcomes = Outcomes(
        torch.tensor(np.minimum(time, limit), dtype=torch.float32),
        torch.tensor(time <= limit, dtype=torch.float32),
        torch.ones(n, dtype=torch.bool),
        torch.tensor(draw.integers(0, 3, n)),
        torch.zeros(n, 0),
        torch.zeros(n, 0, dtype=torch.bool),
    )
    people = PatientTensors(
        tuple(f"p{k:04d}" for k in range(n)),
        {"clinical_feature": _node(placed), "gene": _node(genes)},
        outcomes,
    )
    home = tuple(f"site-{k % sites}" for k in range(n))
    return Patients(Cohort(people, home, None, ()), build_topology(STUDY.contract, None))


def bundle_of(everybody: Patients, folder: Path, study: Study = STUDY) -> Bundle:
    """Train and release."""
    sites = everybody.sites(study)
    finish_run(study, sites, run_study(study, sites, folder), folder)
    return load_bundle(folder / "model")


def _node(values: np.ndarray) -> NodeTensors:
    tensor = torch.tensor(values, dtype=torch.float32)[:, :, None]
    return NodeTensors(tensor, torch.ones_like(tensor, dtype=torch.bool))
