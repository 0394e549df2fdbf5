"""The model's mathematics written with PyG: batches of ``HeteroData`` and ``GATConv``.

An oracle for the dense form and its competitor in the training benchmark. Weights come from our model. Only
what is dense in both (clinical path, fusion, heads) is shared; whatever runs over nodes and edges is PyG's.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.nn import GATConv
from torch_geometric.utils import scatter, softmax

from mmfed_common.contract import Contract
from mmfed_common.model import MultimodalNetwork, Predictions
from mmfed_common.model.additive import AdditiveBlock
from mmfed_common.model.attention import CrossAttention, GraphAttention, NeighbourAttention
from mmfed_common.model.clinical import CLINICAL
from mmfed_common.model.edges import SharedEdges
from mmfed_common.model.relational import NodeEmbedding, RelationalLayer, key
from mmfed_common.model.tokens import AttentionPool, masked_mean
from mmfed_common.topology import HAS_RELATION, Relation, Topology


class PygNetwork(nn.Module):
    """The full model over a collated batch of patient graphs.

    Parameters
    ----------
    model
        Ours; its weights are copied.
    contract, topology
        What it was built for.
    """

    def __init__(self, model: MultimodalNetwork, contract: Contract, topology: Topology) -> None:
        super().__init__()
        full = model.full
        self.modalities = contract.node_types
        self.count = {name: len(topology.nodes[name]) for name in self.modalities}
        self.clinical = copy.deepcopy(model.clinical)
        self.additive = copy.deepcopy(model.additive)
        self.embeddings = copy.deepcopy(full.embeddings)
        self.pools = copy.deepcopy(full.pools)
        self.fusion = copy.deepcopy(full.fusion)
        self.gates = copy.deepcopy(full.gates)
        self.membership = copy.deepcopy(full.membership)
        layers = [layer for layer in full.layers if isinstance(layer, RelationalLayer)]
        self.norms = nn.ModuleList([copy.deepcopy(layer.norms) for layer in layers])
        self.relations: tuple[Relation, ...] = layers[0].kinds if layers else ()
        self.convolutions = nn.ModuleList(
            [
                nn.ModuleDict({key(r): _convolution(layer.relations[key(r)]) for r in layer.kinds})
                for layer in layers
            ]
        )

    def forward(self, batch: HeteroData) -> Predictions:
        """Predict for the patients of a collated batch."""
        patients = int(batch["patient"].x.shape[0])
        present = {name: batch[name].present.any(dim=1) for name in self.modalities}
        owner = {n: torch.arange(patients).repeat_interleave(c) for n, c in self.count.items()}
        features = batch[CLINICAL].x.view(patients, -1) if CLINICAL in self.modalities else None
        logits, log_variances = self.clinical(features, patients)
        if self.additive is not None:
            for name in self.additive.modalities:
                summary = self._summary(self.additive, name, batch, owner[name], patients)
                for task, gate in self.additive.gates[name].named_children():
                    logits[task] = logits[task] + gate(summary)
        linked = self._linked(batch)
        nodes = {name: self._embed(name, batch, linked, patients) for name in self.modalities}
        for norms, convolutions in zip(self.norms, self.convolutions, strict=True):
            nodes = self._layer(
                nodes, batch, dict(norms.named_children()), dict(convolutions.named_children())
            )
        fused = self._fuse(nodes, present, linked, owner, patients)
        for task, gate in self.gates.items():
            logits[task] = logits[task] + gate(fused)
        return Predictions(
            logits.get("survival"), logits.get("response"), logits.get("toxicity"), log_variances
        )

    def _summary(
        self, block: AdditiveBlock, name: str, batch: HeteroData, owner: Tensor, patients: int
    ) -> Tensor:
        values, present = batch[name].x, batch[name].present
        if name == "gene" and block.pathways is not None:
            edges = block.pathways.edges
            source, target = _repeated(edges, patients)
            message = values[source] * block.pathways.weight.weight.repeat(patients, 1)
            score = scatter(message, target, dim_size=patients * edges.targets)
            return torch.tanh(block.pathway_gain * score.view(patients, block.pathways.width))
        if name == "imaging_feature":
            count = scatter(present.float(), owner, dim_size=patients).clamp(min=1)
            wide: Tensor = scatter(values, owner, dim_size=patients) / count
        else:
            wide = values.reshape(patients, self.count[name] * values.shape[1])
        return wide * (block.wide_gain / math.sqrt(wide.shape[1]))

    def _linked(self, batch: HeteroData) -> Tensor | None:
        if "gene" not in self.modalities:
            return None
        linked = torch.zeros(batch["gene"].x.shape[0], dtype=torch.bool)
        linked[batch[HAS_RELATION["gene"]].edge_index[1]] = True
        return linked

    def _embed(self, name: str, batch: HeteroData, linked: Tensor | None, patients: int) -> Tensor:
        embedding = self.embeddings[name]
        if not isinstance(embedding, NodeEmbedding):
            raise TypeError("a node type has a node embedding")
        parts = [batch[name].x, batch[name].present.float()]
        if name == "gene" and linked is not None:
            parts.append(linked.unsqueeze(1).float())
        nodes: Tensor = embedding.values(torch.cat(parts, dim=1))
        if embedding.identity is None:
            return nodes
        identity: Tensor = embedding.identity(torch.arange(self.count[name]).repeat(patients))
        return nodes + identity

    def _layer(
        self,
        nodes: dict[str, Tensor],
        batch: HeteroData,
        norms: dict[str, nn.Module],
        convolutions: dict[str, nn.Module],
    ) -> dict[str, Tensor]:
        normal = {name: norm(nodes[name]) for name, norm in norms.items()}
        result = dict(nodes)
        for relation in self.relations:
            source, _, target = relation
            index = batch[relation].edge_index
            both = normal[source] if source == target else (normal[source], normal[target])
            result[target] = result[target] + convolutions[key(relation)](both, index)
        return result

    def _fuse(
        self,
        nodes: dict[str, Tensor],
        present: dict[str, Tensor],
        linked: Tensor | None,
        owner: dict[str, Tensor],
        patients: int,
    ) -> Tensor:
        summaries: list[Tensor] = []
        pathways = seen = None
        for name in self.modalities:
            if name == "gene" and self.membership is not None and linked is not None:
                pathways, seen = self._pathways(nodes[name], present[name], linked, patients)
                summaries.append(masked_mean(pathways, seen))
                continue
            mask = present[name]
            if name == "gene" and linked is not None:
                any_linked = scatter(linked.float(), owner[name], dim_size=patients) > 0
                mask = torch.where(any_linked[owner[name]], linked, mask)
            summaries.append(self._pooled(name, nodes[name][mask], owner[name][mask], patients))
        has = [scatter(present[n].float(), owner[n], dim_size=patients) > 0 for n in self.modalities]
        fused: Tensor = self.fusion(torch.stack(summaries, dim=1), torch.stack(has, dim=1), pathways, seen)
        return fused

    def _pooled(self, name: str, nodes: Tensor, owner: Tensor, patients: int) -> Tensor:
        pool = self.pools[name]
        if not isinstance(pool, AttentionPool):
            raise TypeError("a modality has an attention pool")
        share = softmax(pool.score(nodes), owner, num_nodes=patients)
        pooled: Tensor = scatter(share * nodes, owner, dim_size=patients)
        return pooled

    def _pathways(
        self, genes: Tensor, present: Tensor, linked: Tensor, patients: int
    ) -> tuple[Tensor, Tensor]:
        if self.membership is None:
            raise TypeError("there are no pathways")
        source, target = _repeated(self.membership, patients)
        size = patients * self.membership.targets
        standing = (present.float() + linked)[source]
        best = scatter(standing, target, dim_size=size, reduce="max")
        keep = (standing == best[target]) & (standing > 0)
        tokens = scatter(genes[source[keep]], target[keep], dim_size=size, reduce="mean")
        shape = (patients, self.membership.targets)
        return tokens.view(*shape, genes.shape[1]), (best > 0).view(shape)


def _repeated(edges: SharedEdges, patients: int) -> tuple[Tensor, Tensor]:
    """Shared edges for every patient of a batch, as collation would number them."""
    shift = torch.arange(patients)[:, None]
    source = (edges.source + shift * edges.sources).flatten()
    return source, (edges.target + shift * edges.targets).flatten()


def _convolution(ours: nn.Module) -> GATConv:
    """``GATConv`` with the weights of one of our attention layers."""
    if isinstance(ours, GraphAttention | NeighbourAttention):
        hidden, heads = ours.project.in_features, ours.heads
        conv = GATConv(hidden, hidden // heads, heads, bias=False)
        with torch.no_grad():
            conv.lin.weight.copy_(ours.project.weight)
            conv.att_src[0].copy_(ours.attention.weight[:heads])
            conv.att_dst[0].copy_(ours.attention.weight[heads:])
        return conv
    if not isinstance(ours, CrossAttention):
        raise TypeError(f"{type(ours).__name__} has no counterpart in PyG")
    hidden, channels = ours.project.in_features, ours.attention.embedding_dim
    heads = hidden // channels
    conv = GATConv((hidden, hidden), channels, heads, add_self_loops=False, bias=False)
    with torch.no_grad():
        conv.lin_src.weight.copy_(ours.project.weight)
        conv.att_src[0].copy_(ours.attention.weight)
        conv.lin_dst.weight.zero_()
        conv.lin_dst.weight.view(heads, channels, hidden)[:, 0].copy_(ours.target_score.weight)
        conv.att_dst.zero_()
        conv.att_dst[0, :, 0] = 1.0
    return conv
