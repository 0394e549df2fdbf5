"""The full block: graph attention over the patient's graph, tokens, fusion, and gates that start at zero.

What trains without outcomes has its own heads, which only a study with such a stage has.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmfed_common.contract import Contract
from mmfed_common.graph.links import patient_gene_links
from mmfed_common.model.clinical import CLINICAL, output_sizes, zero_linear
from mmfed_common.model.contrast import (
    Projection,
    fewer_edges,
    fewer_links,
    fewer_neighbours,
    info_nce,
    with_noise,
)
from mmfed_common.model.edges import SharedEdges
from mmfed_common.model.fusion import Fusion
from mmfed_common.model.kernels import Kernels
from mmfed_common.model.pathways import pathway_edges
from mmfed_common.model.presence import drop_modalities
from mmfed_common.model.reconstruction import NodeMasking, hide, node_decoders, reconstruction_loss
from mmfed_common.model.relational import EdgeStore, NodeEmbedding, RelationalLayer, relations_of
from mmfed_common.model.sizes import Sizes
from mmfed_common.model.tokens import AttentionPool, masked_mean
from mmfed_common.patients import NodeTensors
from mmfed_common.study import ModelSection, Training
from mmfed_common.topology import Topology


class FullBlock(nn.Module):
    """Everything beyond the clinical and the additive block."""

    def __init__(
        self, contract: Contract, topology: Topology, section: ModelSection, training: Training
    ) -> None:
        super().__init__()
        self.settings = training.pretraining
        sizes = Sizes.of(section)
        self.modalities = contract.node_types
        self.modality_dropout = section.modality_dropout
        self.gene_channels = topology.channels.get("gene", ())
        self.edge_threshold = 0.0 if contract.gene is None else contract.gene.edge_threshold
        relations = relations_of(contract, topology)
        depth = sizes.layers if section.intra_attention and relations else 0
        self.store = EdgeStore(relations if depth else (), topology)
        self.embeddings = nn.ModuleDict(
            {name: NodeEmbedding(name, topology, sizes.hidden) for name in self.modalities}
        )
        self.layers = nn.ModuleList(
            [RelationalLayer(relations, sizes.hidden, sizes.heads) for _ in range(depth)]
        )
        by_pathway = section.pathway_tokens and "gene" in self.modalities
        self.membership = pathway_edges(topology) if by_pathway else None
        pooled = [m for m in self.modalities if not (m == "gene" and self.membership is not None)]
        self.pools = nn.ModuleDict({name: AttentionPool(sizes.hidden) for name in pooled})
        self.fusion = Fusion(
            len(self.modalities),
            sizes.hidden,
            sizes.heads,
            sizes.fusion_layers,
            section.dropout,
            cross=section.fusion == "attention",
        )
        self.gates = nn.ModuleDict(
            {task: zero_linear(sizes.hidden, size) for task, size in output_sizes(contract).items()}
        )
        # Last of all, so that every other weight starts as it does without them.
        self.decoders: nn.ModuleDict | None = None
        self.contrast: Projection | None = None
        if "masked_nodes" in training.objectives:
            self.masking = NodeMasking(self.settings.masked_fraction)
            self.decoders = node_decoders(topology, self.modalities, sizes.hidden)
        if "contrastive" in training.objectives:
            self.contrast = Projection(sizes.hidden)

    def forward(
        self, raw: Mapping[str, NodeTensors], standardised: Mapping[str, Tensor], kernels: Kernels
    ) -> dict[str, Tensor]:
        """Give what is added to each task, ``(patients, size)``."""
        _, fused = self._represent(raw, standardised, kernels)
        return {task: gate(fused) for task, gate in self.gates.items()}

    def reconstruction_losses(
        self, raw: Mapping[str, NodeTensors], standardised: Mapping[str, Tensor], kernels: Kernels
    ) -> Tensor:
        """Hide nodes and tell their values; the loss of each patient, ``(patients,)``."""
        if self.decoders is None:
            raise ValueError("the study has no stage that fills in hidden values")
        hidden = {name: self.masking(raw[name].present) for name in self.modalities}
        nodes, fused = self._represent(*hide(raw, standardised, hidden), kernels)
        told = {name: decode(nodes[name], fused) for name, decode in self.decoders.items()}
        asked = {name: raw[name].present & hidden[name].unsqueeze(2) for name in self.modalities}
        return reconstruction_loss(told, standardised, asked)

    def contrastive_losses(
        self, raw: Mapping[str, NodeTensors], standardised: Mapping[str, Tensor], kernels: Kernels
    ) -> Tensor:
        """Make two views of each patient and find each other's; the loss of each patient, ``(patients,)``."""
        if self.contrast is None:
            raise ValueError("the study has no contrastive stage")
        views = []
        for _ in range(2):
            noise = self.settings.feature_noise
            altered = {n: with_noise(standardised[n], raw[n].present, noise) for n in self.modalities}
            _, fused = self._represent(raw, altered, kernels, self.settings.edge_dropout)
            views.append(self.contrast(fused))
        return info_nce(views[0], views[1], self.settings.temperature)

    def _represent(
        self,
        raw: Mapping[str, NodeTensors],
        standardised: Mapping[str, Tensor],
        kernels: Kernels,
        edge_dropout: float = 0.0,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Hidden states: of nodes, ``(patients, nodes, hidden)``, and of patients, ``(patients, hidden)``."""
        has = torch.stack([raw[name].present.flatten(1).any(dim=1) for name in self.modalities], dim=1)
        if self.training and self.modality_dropout > 0:
            clinical = torch.tensor([name == CLINICAL for name in self.modalities], device=has.device)
            left = drop_modalities(has, self.modality_dropout, clinical)
            raw, standardised = self._without(raw, standardised, left)
            has = left
        linked = self._links(raw, standardised)
        if linked is not None and edge_dropout > 0:
            linked = fewer_links(linked, edge_dropout)
        nodes = {
            name: embed(standardised[name], raw[name].present, linked if name == "gene" else None)
            for name, embed in self.embeddings.items()
        }
        tiles = raw.get("imaging_feature")
        neighbours = None if tiles is None else tiles.neighbours
        edges = self.store.by_name()
        if edge_dropout > 0:
            edges = {name: fewer_edges(some, edge_dropout) for name, some in edges.items()}
            neighbours = None if tiles is None else fewer_neighbours(tiles, edge_dropout)
        for layer in self.layers:
            nodes = layer(nodes, edges, neighbours, kernels)
        return nodes, self._fuse(nodes, raw, linked, has, kernels)

    def _links(self, raw: Mapping[str, NodeTensors], standardised: Mapping[str, Tensor]) -> Tensor | None:
        """Tell which genes each patient is linked to, ``(patients, genes)`` bool."""
        if "gene" not in self.modalities:
            return None
        return patient_gene_links(raw["gene"], standardised["gene"], self.gene_channels, self.edge_threshold)

    def _without(
        self, raw: Mapping[str, NodeTensors], standardised: Mapping[str, Tensor], left: Tensor
    ) -> tuple[dict[str, NodeTensors], dict[str, Tensor]]:
        """Make dropped modalities look exactly as if they had never been measured."""
        masked: dict[str, NodeTensors] = {}
        values: dict[str, Tensor] = {}
        for column, name in enumerate(self.modalities):
            keep = left[:, column, None, None]
            node = raw[name]
            masked[name] = NodeTensors(node.values, node.present & keep, node.neighbours)
            values[name] = torch.where(keep, standardised[name], 0.0)
        return masked, values

    def _fuse(
        self,
        nodes: Mapping[str, Tensor],
        raw: Mapping[str, NodeTensors],
        linked: Tensor | None,
        has: Tensor,
        kernels: Kernels,
    ) -> Tensor:
        summaries: list[Tensor] = []
        pathways: Tensor | None = None
        seen: Tensor | None = None
        for name in self.modalities:
            present = raw[name].present.any(dim=2)
            if name == "gene" and self.membership is not None and linked is not None:
                standing = present.to(nodes[name].dtype) + linked
                pathways = kernels.pool(nodes[name], standing, self.membership)
                seen = _reached(present, self.membership, kernels)
                summaries.append(masked_mean(pathways, seen))
            else:
                mask = _best(present, linked) if name == "gene" and linked is not None else present
                summaries.append(self.pools[name](nodes[name], mask))
        fused: Tensor = self.fusion(torch.stack(summaries, dim=1), has, pathways, seen)
        return fused


def _best(present: Tensor, linked: Tensor) -> Tensor:
    """Linked genes where the patient has any, otherwise all that were measured."""
    return torch.where(linked.any(dim=1, keepdim=True), linked, present)


def _reached(present: Tensor, membership: SharedEdges, kernels: Kernels) -> Tensor:
    """Which pathways have at least one measured gene, ``(patients, pathways)`` bool."""
    measured = present.to(torch.float32).unsqueeze(2)
    return kernels.score(measured, measured.new_ones(1, len(membership), 1), membership) > 0
