"""How much memory a study needs here, and how much this machine or container gives."""

from __future__ import annotations

from pathlib import Path

import psutil

from mmfed_client.site import SiteData
from mmfed_common.model.sizes import Sizes
from mmfed_common.study import Study
from mmfed_common.topology import Topology

FLOAT = 4
COPIES_OF_WEIGHTS = 7
"""Weights, their gradients, two moments of the optimiser, and three copies in messages."""
TENSORS_A_LAYER = 8
"""Values that a layer keeps for its backward pass, for each node and hidden channel; measured."""
FIXED = 250 * 2**20
"""What compiling the kernels and the first step take whatever the study; measured."""
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def available() -> int:
    """Bytes that this process may still take: the machine's, or the container's where that is less."""
    free = int(psutil.virtual_memory().available)
    for most_file, used_file in CGROUPS:
        try:
            most, used = most_file.read_text().strip(), int(used_file.read_text())
        except (OSError, ValueError):
            continue
        if most.isdigit():
            free = min(free, max(int(most) - used, 0))
    return free


def weights_bytes(study: Study, topology: Topology) -> int:
    """Estimate the size of the model: what travels in one message when everything is trained."""
    sizes = Sizes.of(study.model)
    nodes = sum(len(names) for names in topology.nodes.values())
    channels = sum(len(names) for names in topology.channels.values())
    tokens = len(topology.nodes) + len(topology.pathways)
    per_layer = 12 * sizes.hidden**2
    layers = sizes.layers * max(len(topology.nodes), 1) + sizes.fusion_layers + 1
    return FLOAT * (
        per_layer * layers + sizes.hidden * (nodes + channels + tokens + len(topology.membership))
    )


def step_bytes(study: Study, data: SiteData) -> int:
    """Estimate what a training step takes beyond what is loaded: model, optimiser, one batch."""
    sizes, topology = Sizes.of(study.model), data.topology
    patients = max(len(data.patients), 1)
    batch = min(study.training.batch or patients, patients)
    nodes = sum(len(names) for names in topology.nodes.values())
    edges = sum(len(listed) for listed in topology.edges.values()) + len(topology.membership)
    layers = max(sizes.layers, 1)
    values = batch * nodes * sizes.hidden * layers * TENSORS_A_LAYER
    scores = batch * edges * sizes.heads * layers * 4
    return FIXED + COPIES_OF_WEIGHTS * weights_bytes(study, topology) + FLOAT * (values + scores)
