"""Masked-node reconstruction: some nodes of a patient are hidden, and what is left must tell their values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmfed_common.patients import NodeTensors
from mmfed_common.topology import Topology


class NodeMasking(nn.Module):
    """Chooses the nodes that are hidden, for each patient on his own; holds no parameters.

    Draws from torch's global generator of the device, which the caller seeds.

    Parameters
    ----------
    fraction
        The probability that a node is hidden.

    Attributes
    ----------
    alike
        Hide the same nodes of every patient, evenly spread, and draw nothing: for a comparison of batches in
        which chance must play no part.
    """

    def __init__(self, fraction: float) -> None:
        super().__init__()
        self.fraction = fraction
        self.alike = False

    def forward(self, present: Tensor) -> Tensor:
        """``(patients, nodes, channels)`` bool → ``(patients, nodes)`` bool, which nodes are hidden.

        Nodes of which nothing was measured may be among them; there is nothing to tell of them.
        """
        patients, nodes = present.shape[:2]
        if self.alike:
            place = torch.arange(1, nodes + 1, device=present.device) * self.fraction
            chosen = place.floor() > (place - self.fraction).floor()
            return chosen.expand(patients, nodes)
        return torch.rand(patients, nodes, device=present.device) < self.fraction


class NodeDecoder(nn.Module):
    """From a node's hidden state and the patient's fused vector to the node's standardised values."""

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__()
        self.own = nn.Linear(hidden, hidden)
        self.patient = nn.Linear(hidden, hidden, bias=False)
        self.values = nn.Linear(hidden, channels)

    def forward(self, nodes: Tensor, fused: Tensor) -> Tensor:
        """``(patients, nodes, hidden)``, ``(patients, hidden)`` → ``(patients, nodes, channels)``."""
        mixed = functional.gelu(self.own(nodes) + self.patient(fused).unsqueeze(1))
        result: Tensor = self.values(mixed)
        return result


def node_decoders(topology: Topology, modalities: tuple[str, ...], hidden: int) -> nn.ModuleDict:
    """Give one decoder for each node type."""
    return nn.ModuleDict({name: NodeDecoder(hidden, len(topology.channels[name])) for name in modalities})


def hide(
    raw: Mapping[str, NodeTensors], standardised: Mapping[str, Tensor], hidden: Mapping[str, Tensor]
) -> tuple[dict[str, NodeTensors], dict[str, Tensor]]:
    """Make hidden nodes look exactly as if they had never been measured."""
    masked: dict[str, NodeTensors] = {}
    values: dict[str, Tensor] = {}
    for name, node in raw.items():
        keep = ~hidden[name].unsqueeze(2)
        masked[name] = NodeTensors(node.values, node.present & keep, node.neighbours)
        values[name] = torch.where(keep, standardised[name], 0.0)
    return masked, values


def reconstruction_loss(
    told: Mapping[str, Tensor], standardised: Mapping[str, Tensor], asked: Mapping[str, Tensor]
) -> Tensor:
    """Mean over a patient's node types of the mean Huber loss over the values asked for, ``(patients,)``.

    Huber's loss (δ = 1) on standardised values, so that one outlier does not lead; on 0/1 values it is the
    squared error. 0, and so is its gradient, for a patient of whom nothing was hidden: missing values are
    never asked for.

    Parameters
    ----------
    told, standardised, asked
        Node type → ``(patients, nodes, channels)``: what the model says, the true values, and where.
    """
    costs, counts = [], []
    for name, wanted in asked.items():
        weight = wanted.to(told[name].dtype)
        each = functional.huber_loss(told[name], standardised[name], reduction="none") * weight
        number = weight.sum(dim=(1, 2))
        costs.append(each.sum(dim=(1, 2)) / number.clamp(min=1.0))
        counts.append((number > 0).to(told[name].dtype))
    types = torch.stack(counts).sum(dim=0).clamp(min=1.0)
    return torch.stack(costs).sum(dim=0) / types
