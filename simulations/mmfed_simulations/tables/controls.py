"""Graphs that hold no knowledge: the same sizes and degrees, with the names of the genes dealt anew.

What a model gains from knowledge is what it loses when the knowledge is shuffled. Dealing the genes anew
keeps the size of every pathway, how many pathways a gene's place is in, and the shape of the network of
genes; only which gene stands where is chance.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from mmfed_common.randomness import derive_seed
from mmfed_common.topology import EdgeList, Topology


def shuffled_genes(topology: Topology, seed: int) -> Topology:
    """Deal the genes anew over pathways and over the relations between genes.

    Parameters
    ----------
    topology
        The graph of a study with genes.
    seed
        Another seed deals them otherwise.

    Returns
    -------
    Topology
        The same nodes, with membership and gene–gene edges of a permutation of the genes.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "shuffled genes"))
    dealt = torch.randperm(len(topology.nodes["gene"]), generator=generator)
    edges = {}
    for relation, found in topology.edges.items():
        source = dealt[found.source] if relation[0] == "gene" else found.source
        target = dealt[found.target] if relation[2] == "gene" else found.target
        edges[relation] = EdgeList.build(source, target)
    membership = EdgeList.build(dealt[topology.membership.source], topology.membership.target)
    return replace(topology, edges=edges, membership=membership)
