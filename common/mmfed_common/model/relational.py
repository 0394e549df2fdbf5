"""Node embeddings and the layers of graph attention over all relations of the graph."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmfed_common.contract import Contract
from mmfed_common.model.attention import CrossAttention, GraphAttention, NeighbourAttention
from mmfed_common.model.edges import SharedEdges
from mmfed_common.model.kernels import Kernels
from mmfed_common.model.rows import rows
from mmfed_common.topology import ASSOCIATED_WITH, CORRELATES_WITH, SPATIAL, Relation, Topology

IDENTITY_SCALE = 0.1


def relations_of(contract: Contract, topology: Topology) -> tuple[Relation, ...]:
    """Relations that have weights: a function of the study, never of how many edges one site has."""
    listed = [r for r in topology.edges if r[0] in contract.node_types and r[2] in contract.node_types]
    if contract.relations.source == "none":
        listed = [r for r in listed if r not in (ASSOCIATED_WITH, CORRELATES_WITH)]
    if contract.imaging is not None and contract.imaging.maximum_tiles > 1:
        listed.append(SPATIAL)
    return tuple(sorted(listed))


def key(relation: Relation) -> str:
    """Name of a relation within the model."""
    return "__".join(relation)


class NodeEmbedding(nn.Module):
    """Values, their presence and the node's identity → hidden.

    Genes have one more input, whether the patient is linked to them: its weights are the embedding that a
    linked gene receives. Tiles have no identity.
    """

    def __init__(self, name: str, topology: Topology, hidden: int) -> None:
        super().__init__()
        inputs = 2 * len(topology.channels[name]) + (name == "gene")
        self.values = nn.Linear(inputs, hidden)
        self.identity: nn.Embedding | None = None
        if name != "imaging_feature":
            self.identity = nn.Embedding(len(topology.nodes[name]), hidden)
            nn.init.normal_(self.identity.weight, std=IDENTITY_SCALE)

    def forward(self, standardised: Tensor, present: Tensor, linked: Tensor | None) -> Tensor:
        """``(patients, nodes, channels)`` → ``(patients, nodes, hidden)``."""
        parts = [standardised, present.to(standardised.dtype)]
        if linked is not None:
            parts.append(linked.unsqueeze(-1).to(standardised.dtype))
        nodes: Tensor = self.values(torch.cat(parts, dim=2))
        return nodes if self.identity is None else nodes + rows(self.identity, nodes.shape[0])


class RelationalLayer(nn.Module):
    """One layer: LayerNorm per node type, attention over each relation, summed into the residual."""

    def __init__(self, relations: tuple[Relation, ...], hidden: int, heads: int) -> None:
        super().__init__()
        self.kinds = relations
        types = sorted({end for r in relations for end in (r[0], r[2])})
        self.norms = nn.ModuleDict({name: nn.LayerNorm(hidden) for name in types})
        self.relations = nn.ModuleDict()
        for relation in relations:
            if relation == SPATIAL:
                self.relations[key(relation)] = NeighbourAttention(hidden, heads)
            elif relation[0] == relation[2]:
                self.relations[key(relation)] = GraphAttention(hidden, heads)
            else:
                self.relations[key(relation)] = CrossAttention(hidden, heads)

    def forward(
        self,
        nodes: Mapping[str, Tensor],
        edges: Mapping[str, SharedEdges],
        neighbours: Tensor | None,
        kernels: Kernels,
    ) -> dict[str, Tensor]:
        """Node type → ``(patients, nodes, hidden)``, the same shapes out."""
        normal = {name: norm(nodes[name]) for name, norm in self.norms.items()}
        result = dict(nodes)
        for relation in self.kinds:
            source, _, target = relation
            module = self.relations[key(relation)]
            if relation == SPATIAL:
                message = module(normal[source], neighbours)
            elif source == target:
                message = module(normal[source], edges[key(relation)], kernels)
            else:
                message = module(normal[source], normal[target], edges[key(relation)], kernels)
            result[target] = result[target] + message
        return result


class EdgeStore(nn.Module):
    """The shared edges of every relation; holds no parameters."""

    def __init__(self, relations: tuple[Relation, ...], topology: Topology) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        for relation in relations:
            if relation != SPATIAL:
                source, _, target = relation
                self.edges[key(relation)] = SharedEdges(
                    topology.edges[relation],
                    len(topology.nodes[source]),
                    len(topology.nodes[target]),
                    self_loops=source == target,
                    compact=source != target,
                )

    def by_name(self) -> dict[str, SharedEdges]:
        """Relation's name → edges."""
        return {name: edges for name, edges in self.edges.items() if isinstance(edges, SharedEdges)}
