"""Patients that nobody is: for a training step where there is no cohort, or no study, yet."""

from __future__ import annotations

import numpy as np
import torch

from mmfed_client.opening import site_data
from mmfed_client.site import SiteData
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.randomness import numpy_generator
from mmfed_common.study import Study
from mmfed_common.topology import Topology

SMALL_STUDY = {
    "study": {"name": "check", "seed": 1},
    "contract": {
        "demographics": {"age": {"kind": "number"}},
        "clinical": {"marker": {"kind": "number"}},
        "gene": {"panel": [f"GENE{i}" for i in range(50)], "layers": {"expression": {}}},
        "survival": {"bins": [365.0, 730.0, 1460.0, 2920.0], "horizons": [365.0]},
    },
    "training": {"stages": [{"level": "full", "rounds": 1}]},
}
"""Stands in for the study where there is none."""


def small_study() -> Study:
    """The study that stands in where there is none."""
    return Study.from_content(SMALL_STUDY)


def generated_site(study: Study, topology: Topology, site: str, count: int) -> SiteData:
    """Draw patients at random from the study's seed; no value of any real patient is in them."""
    draw = numpy_generator(study.study.seed, "generated patients", site)
    nodes = {name: _nodes(study, topology, name, count, draw) for name in topology.nodes}
    contract = study.contract
    labels = len(contract.toxicity.labels) if contract.toxicity is not None else 0
    classes = len(contract.response.classes) if contract.response is not None else 0
    longest = contract.survival.bins[-1] if contract.survival is not None else 1.0
    response = draw.integers(0, classes, count) if classes else np.full(count, -1)
    outcomes = Outcomes(
        torch.from_numpy(draw.uniform(0.01 * longest, longest, count).astype(np.float32)),
        torch.from_numpy(draw.integers(0, 2, count).astype(np.float32)),
        torch.full((count,), contract.survival is not None),
        torch.from_numpy(response.astype(np.int64)),
        torch.from_numpy(draw.integers(0, 2, (count, labels)).astype(np.float32)),
        torch.ones(count, labels, dtype=torch.bool),
    )
    patients = PatientTensors(tuple(f"generated-{number}" for number in range(count)), nodes, outcomes)
    rule = study.evaluation.rule
    folds = [number % study.evaluation.folds for number in range(count)] if rule == "fold" else None
    # With `rule = "site"` a test site trains nobody: the step is then made as another site would make it.
    name = f"not-{site}" if site in study.evaluation.sites else site
    return site_data(study, name, patients, folds, topology)


def _nodes(study: Study, topology: Topology, name: str, count: int, draw: np.random.Generator) -> NodeTensors:
    shape = (count, len(topology.nodes[name]), len(topology.channels[name]))
    values = torch.from_numpy(draw.normal(size=shape).astype(np.float32))
    neighbours = None
    imaging = study.contract.imaging
    if name == "imaging_feature" and imaging is not None:
        near = np.arange(shape[1])[:, None] + 1 + np.arange(min(imaging.neighbours, shape[1] - 1))
        padded = np.full((shape[1], imaging.neighbours), -1, dtype=np.int64)
        padded[:, : near.shape[1]] = near % shape[1]
        neighbours = torch.from_numpy(np.broadcast_to(padded, (count, *padded.shape)).copy())
    return NodeTensors(values, torch.ones(shape, dtype=torch.bool), neighbours)
