"""One patient as a heterogeneous graph, and back to dense tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmfed_common.contract import Contract
from mmfed_common.errors import ModelError
from mmfed_common.graph.build import SHARED_RELATIONS
from mmfed_common.graph.links import patient_gene_links
from mmfed_common.patients import NODE_TYPES, NodeTensors, Outcomes, PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.topology import HAS_RELATION, SPATIAL, Topology

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

ABSENT = -1


@dataclass(frozen=True)
class PatientGraphBuilder:
    """Builds the graph of one patient.

    Every node type and relation of the design is always there. One that the study does not use has no nodes
    and no edges.

    - Node stores: ``x`` ``(nodes, channels)`` float32, standardised, 0 where absent; ``present``
      ``(nodes, channels)`` bool. The store ``patient`` has one node with ``x = 1``. ``imaging_feature`` also
      has ``neighbour_slots``: how many neighbours a tile can have, 0 if the study has no tile positions.
    - Edge stores: ``edge_index`` ``(2, edges)`` int64. The topology's relations are the same for all
      patients; ``has_gene`` follows :func:`patient_gene_links`, the other ``has_…`` relations link every
      node with a measured value; ``spatial_adjacent`` runs from a neighbour to its tile, tile by tile,
      nearest first.
    - Graph attributes: ``patient_id`` and the fields of :class:`Outcomes`, each with one leading element.
    """

    contract: Contract
    topology: Topology
    scaling: Scaling

    def build_patient_graph(self, patient: PatientTensors) -> HeteroData:
        """Build the graph of one patient.

        Parameters
        ----------
        patient
            Exactly one patient, raw, on the CPU.

        Raises
        ------
        ModelError
            ``MMF-608`` when it is not one patient.
        """
        # Imported here since it takes seconds and training works on dense tensors without it.
        from torch_geometric.data import HeteroData

        if len(patient) != 1:
            raise ModelError("MMF-608", f"a graph is of one patient, {len(patient)} were given")
        graph = HeteroData()
        graph["patient"].x = torch.ones(1, 1)
        for name in NODE_TYPES:
            self._add_nodes(graph, name, patient)
        for relation in (*SHARED_RELATIONS, *self.topology.edges):
            edges = self.topology.edges.get(relation)
            graph[relation].edge_index = (
                _no_edges() if edges is None else torch.stack([edges.source, edges.target])
            )
        graph.patient_id = patient.patient_ids[0]
        for field in fields(Outcomes):
            graph[field.name] = getattr(patient.outcomes, field.name)
        return graph

    def _add_nodes(self, graph: HeteroData, name: str, patient: PatientTensors) -> None:
        node = patient.nodes.get(name)
        if node is None:
            node = NodeTensors(torch.zeros(1, 0, 0), torch.zeros(1, 0, 0, dtype=torch.bool))
            standardised = node.values
        else:
            standardised = self.scaling.apply(name, node)
        graph[name].x, graph[name].present = standardised[0], node.present[0]
        if name == "gene" and self.contract.gene is not None:
            channels, threshold = self.topology.channels[name], self.contract.gene.edge_threshold
            linked = patient_gene_links(node, standardised, channels, threshold)[0]
        else:
            linked = node.present[0].any(dim=-1)
        nodes = torch.nonzero(linked).flatten()
        graph[HAS_RELATION[name]].edge_index = torch.stack([torch.zeros_like(nodes), nodes])
        if name == "imaging_feature":
            self._add_neighbours(graph, node.neighbours)

    def _add_neighbours(self, graph: HeteroData, neighbours: Tensor | None) -> None:
        graph["imaging_feature"].neighbour_slots = 0 if neighbours is None else neighbours.shape[2]
        graph[SPATIAL].edge_index = _no_edges()
        if neighbours is not None:
            tile, slot = torch.nonzero(neighbours[0] != ABSENT, as_tuple=True)
            graph[SPATIAL].edge_index = torch.stack([neighbours[0, tile, slot], tile])


def to_patients(
    graphs: Sequence[HeteroData], contract: Contract, topology: Topology, scaling: Scaling
) -> PatientTensors:
    """Undo :meth:`PatientGraphBuilder.build_patient_graph` for some patients of one study.

    Values come back in the contract's units, to within the rounding of standardisation; all else exactly.

    Raises
    ------
    ModelError
        ``MMF-608`` when no graph is given or one does not have the topology's nodes.
    """
    if not graphs:
        raise ModelError("MMF-608", "no graph was given")
    nodes: dict[str, NodeTensors] = {}
    for name in contract.node_types:
        expected = (len(topology.nodes[name]), len(topology.channels[name]))
        for graph in graphs:
            if tuple(graph[name].x.shape) != expected:
                what = f"{name}: {tuple(graph[name].x.shape)} is not (nodes, channels) = {expected}"
                raise ModelError("MMF-608", what, graph.patient_id)
        present = torch.stack([graph[name].present for graph in graphs])
        x = torch.stack([graph[name].x for graph in graphs])
        values = torch.where(present, x * scaling.deviation[name] + scaling.mean[name], 0.0)
        neighbours = _neighbours(graphs, expected[0]) if name == "imaging_feature" else None
        nodes[name] = NodeTensors(values, present, neighbours)
    outcomes = {field.name: torch.cat([graph[field.name] for graph in graphs]) for field in fields(Outcomes)}
    return PatientTensors(tuple(graph.patient_id for graph in graphs), nodes, Outcomes(**outcomes))


def _neighbours(graphs: Sequence[HeteroData], tiles: int) -> Tensor | None:
    slots = max(int(graph["imaging_feature"].neighbour_slots) for graph in graphs)
    if slots == 0:
        return None
    neighbours = torch.full((len(graphs), tiles, slots), ABSENT, dtype=torch.int64)
    for patient, graph in enumerate(graphs):
        source, target = graph[SPATIAL].edge_index
        first = torch.searchsorted(target.contiguous(), target.contiguous())
        neighbours[patient, target, torch.arange(target.numel()) - first] = source
    return neighbours


def _no_edges() -> Tensor:
    return torch.zeros(2, 0, dtype=torch.int64)
