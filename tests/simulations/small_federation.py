"""A federation small enough for a test: a study, a topology and sites whose risk is planted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mmfed_client.site import SiteData
from mmfed_common.graph import build_topology
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.randomness import numpy_generator
from mmfed_common.study import Study
from mmfed_common.topology import Topology

GENES = tuple(f"GENE{i}" for i in range(6))
BINS = (365.0, 730.0, 1460.0, 2920.0)
CLINICAL_STAGE = {"level": "clinical", "rounds": 3, "learning_rate": 0.05}


def small_study(**sections: dict[str, Any]) -> Study:
    """A study with two clinical numbers and survival; sections given replace or extend the defaults."""
    content: dict[str, dict[str, Any]] = {
        "study": {"name": "small", "seed": 7},
        "contract": {
            "demographics": {"age": {"kind": "number"}},
            "clinical": {"marker": {"kind": "number"}},
            "survival": {"bins": BINS, "horizons": (365.0,)},
        },
        "model": {"hidden": 8, "heads": 2, "layers": 1, "fusion_layers": 1},
        "training": {"stages": [CLINICAL_STAGE], "batch": 8, "local_epochs": 2},
        "aggregation": {"minimum_sites": 2},
        "evaluation": {"every": 2, "minimum_cell": 3},
    }
    for name, changes in sections.items():
        content[name] = {**content.get(name, {}), **changes}
    return Study.from_content(content)


def gene_study(**sections: dict[str, Any]) -> Study:
    """A study that also has genes with edges, and trains all three levels."""
    contract = {
        "demographics": {"age": {"kind": "number"}},
        "clinical": {"marker": {"kind": "number"}},
        "gene": {"panel": GENES, "layers": {"expression": {}}, "minimum_measured": 0.0},
        "survival": {"bins": BINS, "horizons": (365.0,)},
        "response": {},
    }
    stages = [
        {"level": "clinical", "rounds": 1, "learning_rate": 0.05},
        {"level": "additive", "rounds": 1, "learning_rate": 0.01, "weight_decay": 0.01},
        {"level": "full", "rounds": 2, "learning_rate": 0.005},
    ]
    training = {"stages": stages, "batch": 8, "local_epochs": 1}
    return small_study(**{"contract": contract, "training": training, **sections})


def small_topology(study: Study) -> Topology:
    """The study's topology without a knowledge pack."""
    return build_topology(study.contract, None)


def small_patients(study: Study, topology: Topology, site: str, count: int) -> PatientTensors:
    """Patients with a planted risk: the hazard grows with age and marker."""
    draw = numpy_generator(study.study.seed, "test patients", site)
    raw = draw.normal(size=(count, len(topology.nodes["clinical_feature"]))).astype(np.float32)
    risk = raw[:, 0] + 0.5 * raw[:, 1]
    nodes = {
        "clinical_feature": NodeTensors(
            torch.from_numpy(raw[:, :, None]), torch.ones(count, raw.shape[1], 1, dtype=torch.bool)
        )
    }
    if "gene" in topology.nodes:
        values = draw.normal(size=(count, len(topology.nodes["gene"]), 1)).astype(np.float32)
        present = draw.random(values.shape) < 0.9
        values[~present] = 0.0
        nodes["gene"] = NodeTensors(torch.from_numpy(values), torch.from_numpy(present))
    time = draw.exponential(900.0 * np.exp(-risk)).astype(np.float32) + 1.0
    limit = draw.uniform(300.0, 2900.0, size=count).astype(np.float32)
    response = draw.integers(-1, 3, size=count) if study.contract.response else np.full(count, -1)
    outcomes = Outcomes(
        torch.from_numpy(np.minimum(time, limit)),
        torch.from_numpy((time <= limit).astype(np.float32)),
        torch.ones(count, dtype=torch.bool),
        torch.from_numpy(response.astype(np.int64)),
        torch.zeros(count, 0),
        torch.zeros(count, 0, dtype=torch.bool),
    )
    return PatientTensors(tuple(f"{site}-{i}" for i in range(count)), nodes, outcomes)


def small_sites(study: Study, sizes: Sequence[int] = (20, 24, 30)) -> list[SiteData]:
    """One site for each size, held out by the study's rule."""
    topology = small_topology(study)
    sites = []
    for number, size in enumerate(sizes):
        name = f"site-{number}"
        patients = small_patients(study, topology, name, size)
        held_out = study.held_out_rule.held_out(patients.patient_ids, name)
        sites.append(SiteData(name, patients, held_out, topology))
    return sites
