"""A small made-up cohort: four hospitals and one clinic that is too small, two modalities, three tasks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from mmfed_client.cohort import Cohort
from mmfed_common.graph import build_topology
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.study import Study
from mmfed_common.topology import Topology

GENES = tuple(f"G{k}" for k in range(12))
STUDY = Study.from_content(
    {
        "study": {"name": "toy", "seed": 3},
        "contract": {
            "clinical": {"age": {"kind": "number"}, "sex": {"kind": "binary"}},
            "gene": {"panel": GENES, "layers": {"expression": {}}},
            "survival": {
                "bins": [180.0, 365.25, 730.5, 1095.75, 1826.25, 2500.0],
                "horizons": [365.25, 1095.75],
            },
            "response": {"classes": ["none", "complete"]},
            "toxicity": {"labels": ["nausea"]},
        },
        "model": {"hidden": 8, "heads": 2, "layers": 1, "kernel": "plain"},
        "training": {
            "batch": 0,
            "stages": [
                {"level": "clinical", "rounds": 2, "learning_rate": 0.05},
                {"level": "additive", "rounds": 1},
                {"level": "full", "rounds": 1, "learning_rate": 0.005},
            ],
        },
        "aggregation": {"minimum_sites": 2, "minimum_patients": 5},
        "evaluation": {"bootstrap": 40, "folds": 2, "every": 2},
    }
)


def toy_cohort(n: int = 100, seed: int = 0) -> Cohort:
    """Hazard from age and two genes; a fifth of the patients lack expression, some lack outcomes."""
    random = np.random.default_rng(seed)
    age, sex = random.normal(60, 10, n), random.integers(0, 2, n).astype(float)
    expression = random.normal(size=(n, len(GENES)))
    log_hazard = 0.08 * (age - 60) + 0.9 * expression[:, 0] - 0.9 * expression[:, 1]
    death, follow_up = random.exponential(900 * np.exp(-log_hazard)), random.uniform(200, 3000, n)
    has = random.random(n) < 0.8
    known_age = random.random(n) < 0.9
    clinical = NodeTensors(
        _tensor(np.stack([age * known_age, sex], 1))[:, :, None],
        torch.tensor(np.stack([known_age, np.ones(n, bool)], 1))[:, :, None],
    )
    gene = NodeTensors(
        _tensor(expression * has[:, None])[:, :, None],
        torch.tensor(has)[:, None, None].repeat(1, len(GENES), 1),
    )
    outcomes = Outcomes(
        time_days=_tensor(np.minimum(death, follow_up)),
        event=_tensor(death <= follow_up),
        survival_known=torch.tensor(random.random(n) < 0.95),
        response=torch.tensor(
            np.where(random.random(n) < 0.8, log_hazard + random.normal(size=n) < 0, -1)
        ).long(),
        toxicity=_tensor(random.random((n, 1)) < 0.4),
        toxicity_known=torch.tensor(random.random((n, 1)) < 0.9),
    )
    sites = [f"hospital-{k % 4}" for k in range(n)]
    sites[:3] = ["clinic"] * 3
    patients = PatientTensors(
        tuple(f"p{k:03d}" for k in range(n)), {"clinical_feature": clinical, "gene": gene}, outcomes
    )
    return Cohort(patients, tuple(sites), tuple(int(k) for k in (np.arange(n) // 4) % 2), ())


def toy_topology() -> Topology:
    """The toy study's graph; it has no edges."""
    return build_topology(STUDY.contract, None)


def _tensor(values: npt.ArrayLike) -> torch.Tensor:
    return torch.tensor(np.asarray(values, dtype=np.float32))
