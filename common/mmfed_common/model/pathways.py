"""Which genes each pathway sees, with the genes that no pathway has as one more group."""

from __future__ import annotations

import torch

from mmfed_common.model.edges import SharedEdges
from mmfed_common.topology import EdgeList, Topology


def pathway_edges(topology: Topology) -> SharedEdges | None:
    """Edges from genes to pathways; ``None`` without pathways.

    Genes that are in no pathway form one last group, so that the model sees the whole panel.
    """
    if not topology.pathways:
        return None
    genes, pathways = len(topology.nodes["gene"]), len(topology.pathways)
    in_some = torch.zeros(genes, dtype=torch.bool)
    in_some[topology.membership.source] = True
    others = torch.nonzero(~in_some)[:, 0]
    groups = pathways + int(others.numel() > 0)
    source = torch.cat([topology.membership.source, others])
    target = torch.cat([topology.membership.target, torch.full_like(others, pathways)])
    return SharedEdges(EdgeList.build(source, target), genes, groups)
