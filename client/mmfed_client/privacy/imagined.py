"""Patients who do not exist, for looking at a study's model without looking at anybody."""

from __future__ import annotations

import torch
from torch import Tensor

from mmfed_common.contract import Contract
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.topology import Topology

MISSING = 0.2


def imagined_patients(contract: Contract, topology: Topology, count: int) -> PatientTensors:
    """Draw patients with every modality and outcome of a contract, some of it missing.

    Draws from torch's global generator, which the caller seeds.
    """
    nodes = {}
    for name in contract.node_types:
        shape = (count, len(topology.nodes[name]), len(topology.channels[name]))
        present = torch.rand(shape) >= MISSING
        neighbours: Tensor | None = None
        if name == "imaging_feature" and contract.imaging is not None:
            present = present.any(dim=2, keepdim=True).expand(shape).clone()
            neighbours = torch.randint(-1, shape[1], (*shape[:2], contract.imaging.neighbours))
        nodes[name] = NodeTensors(torch.where(present, torch.randn(shape), 0.0), present, neighbours)
    bins = (1.0,) if contract.survival is None else contract.survival.bins
    classes = 0 if contract.response is None else len(contract.response.classes)
    labels = 0 if contract.toxicity is None else len(contract.toxicity.labels)
    outcomes = Outcomes(
        time_days=torch.rand(count) * 1.2 * bins[-1],
        event=(torch.rand(count) < 0.5).float(),
        survival_known=torch.rand(count) >= MISSING,
        response=torch.randint(-1, max(classes, 1), (count,)) if classes else torch.full((count,), -1),
        toxicity=(torch.rand(count, labels) < 0.5).float(),
        toxicity_known=torch.rand(count, labels) >= MISSING,
    )
    return PatientTensors(tuple(f"imagined-{i}" for i in range(count)), nodes, outcomes)
