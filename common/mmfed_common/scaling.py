"""Standardisation: means and deviations, from public references, one site, or all sites together.

With ``normalisation = "federated"`` each site sends, once before round 1, the count, sum and sum of squares
of each feature over its training patients; the sums over sites give exactly the pooled mean and deviation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmfed_common.contract import Column, Contract, Layer
from mmfed_common.patients import NodeTensors, PatientTensors
from mmfed_common.topology import Topology

LEAST_DEVIATION = 1e-3
MOMENTS = ("count", "total", "square")


@dataclass(frozen=True)
class Moments:
    """Sufficient statistics of each feature, by node type; each ``(nodes, channels)`` float64."""

    count: Mapping[str, Tensor]
    total: Mapping[str, Tensor]
    square: Mapping[str, Tensor]

    @staticmethod
    def of(patients: PatientTensors) -> Moments:
        """Sum over patients (imaging: over patients and tiles, so that all tile slots share one scale)."""
        count, total, square = {}, {}, {}
        for name, node in patients.nodes.items():
            values = torch.where(node.present, node.values, 0.0).double()
            over = (0, 1) if name == "imaging_feature" else (0,)
            keep = name == "imaging_feature"
            count[name] = node.present.double().sum(dim=over, keepdim=keep).reshape(-1, values.shape[2])
            total[name] = values.sum(dim=over, keepdim=keep).reshape(-1, values.shape[2])
            square[name] = (values * values).sum(dim=over, keepdim=keep).reshape(-1, values.shape[2])
        return Moments(count, total, square)

    @staticmethod
    def add(parts: Iterable[Moments]) -> Moments:
        """Add the moments of several sites, in the order given."""
        first, *rest = parts
        sums = {name: dict(getattr(first, name)) for name in MOMENTS}
        for part in rest:
            for name in MOMENTS:
                for node_type, tensor in getattr(part, name).items():
                    sums[name][node_type] = sums[name][node_type] + tensor
        return Moments(**sums)

    def to_arrays(self) -> dict[str, Tensor]:
        """Flatten to named tensors, ``"moments.<statistic>.<node type>"``."""
        return {f"moments.{s}.{t}": v for s in MOMENTS for t, v in getattr(self, s).items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, Tensor]) -> Moments:
        """Undo :meth:`to_arrays`."""
        sums: dict[str, dict[str, Tensor]] = {name: {} for name in MOMENTS}
        for key, value in arrays.items():
            _, statistic, node_type = key.split(".", 2)
            sums[statistic][node_type] = value
        return Moments(**sums)


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation of each feature, by node type.

    Attributes
    ----------
    mean, deviation
        ``(nodes, channels)`` float32; imaging ``(1, channels)``. Mean 0 and deviation 1 where the contract
        does not standardise (categories, binary columns, mutations, layers with ``standardise = false``).
    """

    mean: Mapping[str, Tensor]
    deviation: Mapping[str, Tensor]

    def apply(self, name: str, node: NodeTensors) -> Tensor:
        """Standardise the values of one node type; ``(patients, nodes, channels)``, 0 where absent."""
        scaled = (node.values - self.mean[name]) / self.deviation[name]
        return torch.where(node.present, scaled, 0.0)

    def to(self, device: torch.device | str) -> Scaling:
        """Move to a device."""
        return Scaling(
            {k: v.to(device) for k, v in self.mean.items()},
            {k: v.to(device) for k, v in self.deviation.items()},
        )

    def to_arrays(self) -> dict[str, Tensor]:
        """Flatten to named tensors, ``"mean.<node type>"`` and ``"deviation.<node type>"``."""
        return {f"{s}.{t}": v for s in ("mean", "deviation") for t, v in getattr(self, s).items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, Tensor]) -> Scaling:
        """Undo :meth:`to_arrays`."""
        parts: dict[str, dict[str, Tensor]] = {"mean": {}, "deviation": {}}
        for key, value in arrays.items():
            part, node_type = key.split(".", 1)
            parts[part][node_type] = value
        return Scaling(**parts)

    @staticmethod
    def from_moments(moments: Moments, contract: Contract, topology: Topology) -> Scaling:
        """Mean and (population) deviation where the contract standardises; constant features keep 1."""
        mean, deviation = {}, {}
        for name, wanted in standardised(contract, topology).items():
            count = moments.count[name].clamp(min=1.0)
            centre = moments.total[name] / count
            spread = (moments.square[name] / count - centre**2).clamp(min=0.0).sqrt()
            spread = torch.where(spread < LEAST_DEVIATION, torch.ones_like(spread), spread)
            mean[name] = torch.where(wanted, centre, 0.0).float()
            deviation[name] = torch.where(wanted, spread, 1.0).float()
        return Scaling(mean, deviation)

    @staticmethod
    def from_reference(contract: Contract, topology: Topology) -> Scaling:
        """Fixed public means and deviations: the knowledge pack's, else the contract's, else 0 and 1."""
        mean, deviation = {}, {}
        for name in contract.node_types:
            shape = (_rows(name, topology), len(topology.channels[name]))
            mean[name], deviation[name] = torch.zeros(shape), torch.ones(shape)
            for row, column, source in described(name, contract, topology):
                if source.reference_mean is not None:
                    mean[name][row, column] = source.reference_mean
                if source.reference_deviation is not None:
                    deviation[name][row, column] = source.reference_deviation
        for name, known in topology.references.items():
            use = standardised(contract, topology)[name] & ~known.isnan().any(dim=0)
            mean[name] = torch.where(use, known[0], mean[name])
            deviation[name] = torch.where(use, known[1].clamp(min=LEAST_DEVIATION), deviation[name])
        return Scaling(mean, deviation)


def standardised(contract: Contract, topology: Topology) -> dict[str, Tensor]:
    """Which features the contract standardises: node type → ``(nodes, channels)`` bool."""
    wanted = {}
    for name in contract.node_types:
        mask = torch.zeros(_rows(name, topology), len(topology.channels[name]), dtype=torch.bool)
        for row, column, source in described(name, contract, topology):
            if isinstance(source, Layer):
                mask[row, column] = source.standardise
            else:
                mask[row, column] = source.kind in ("number", "ordinal")
        wanted[name] = mask
    return wanted


def _rows(name: str, topology: Topology) -> int:
    return 1 if name == "imaging_feature" else len(topology.nodes[name])


def described(
    name: str, contract: Contract, topology: Topology
) -> Iterator[tuple[int | slice, int | slice, Layer | Column]]:
    """Yield what describes each feature, as (row, column, entry); a slice where all nodes share one."""
    every = slice(None)
    if name == "clinical_feature":
        index = {feature: i for i, feature in enumerate(topology.nodes[name])}
        for column_name, column in contract.columns.items():
            if column.kind != "category":
                yield index[column_name], 0, column
    elif name == "gene" and contract.gene is not None:
        for position, channel in enumerate(topology.channels[name]):
            layer = contract.gene.layers[channel]
            yield every, position, layer
    elif name == "imaging_feature" and contract.imaging is not None:
        yield every, every, contract.imaging.layer
    else:
        panel = contract.protein if name == "protein" else contract.metabolite
        if panel is not None:
            yield every, 0, panel.layer
