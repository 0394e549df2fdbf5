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
        self.self_loops = self_loops
        if self_loops:
            loop = torch.arange(targets)
            keep = edges.source != edges.target
            source = torch.cat([edges.source[keep], loop])
            edges = EdgeList.build(source, torch.cat([edges.target[keep], loop]))
        self.sources, self.targets = sources, targets
        used = torch.unique(edges.source) if compact else torch.arange(sources)
        self._hold(torch.searchsorted(used, edges.source), edges.target, used)

    def only(self, keep: Tensor) -> SharedEdges:
        """The same nodes with some of the edges, ``keep`` being ``(edges,)`` bool."""
        fewer = SharedEdges.__new__(SharedEdges)
        nn.Module.__init__(fewer)
        fewer.self_loops, fewer.sources, fewer.targets = self.self_loops, self.sources, self.targets
        fewer._hold(self.source[keep], self.target[keep], self.used)
        return fewer

    def _hold(self, source: Tensor, target: Tensor, used: Tensor) -> None:
        degree = torch.bincount(target, minlength=self.targets)
        pointer = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        for name, tensor in {
            "source": source,
            "target": target,
            "pointer": pointer.to(torch.int32),
            "source_int32": source.to(torch.int32),
            "used": used,
        }.items():
            self.register_buffer(name, tensor.contiguous(), persistent=False)

    def __len__(self) -> int:
        return int(self.source.numel())
