"""Edges shared by all patients, as buffers of modules without parameters (so that hooks never meet them)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmfed_common.topology import EdgeList


class SharedEdges(nn.Module):
    """Directed edges sorted by target, with the row pointers that the fused kernel walks.

    Not part of ``state_dict``: edges come from the topology, weights from the federation.

    Parameters
    ----------
    edges
        The relation's edges.
    sources, targets
        Number of nodes on each side.
    self_loops
        Add one loop per node, as graph attention within a node type does.
    compact
        Number only the sources that have an edge: ``source`` then points into ``used``, and whatever is
        computed for sources is computed for those alone.
    """

    source: Tensor
    target: Tensor
    pointer: Tensor
    source_int32: Tensor
    used: Tensor

    def __init__(
        self,
        edges: EdgeList,
        sources: int,
        targets: int,
        *,
        self_loops: bool = False,
        compact: bool = False,
    ) -> None:
        super().__init__()
        if self_loops:
            loop = torch.arange(targets)
            keep = edges.source != edges.target
            source = torch.cat([edges.source[keep], loop])
            edges = EdgeList.build(source, torch.cat([edges.target[keep], loop]))
        self.sources, self.targets = sources, targets
        used = torch.unique(edges.source) if compact else torch.arange(sources)
        source = torch.searchsorted(used, edges.source)
        degree = torch.bincount(edges.target, minlength=targets)
        pointer = torch.cat([torch.zeros(1, dtype=torch.int64), degree.cumsum(0)])
        for name, tensor in {
            "source": source,
            "target": edges.target,
            "pointer": pointer.to(torch.int32),
            "source_int32": source.to(torch.int32),
            "used": used,
        }.items():
            self.register_buffer(name, tensor.contiguous(), persistent=False)

    def __len__(self) -> int:
        return int(self.source.numel())
