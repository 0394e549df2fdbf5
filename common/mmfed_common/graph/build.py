"""The topology of a study: nodes from the contract's panels, relations from the knowledge pack."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from mmfed_common.contract import GENE_LAYERS, Contract
from mmfed_common.errors import ModelError
from mmfed_common.knowledge import KnowledgePack, SymbolTable
from mmfed_common.topology import (
    ASSOCIATED_WITH,
    CODES_FOR,
    CORRELATES_WITH,
    PROTEIN_INTERACTS,
    REGULATES,
    EdgeList,
    Relation,
    Topology,
)

LEAST_PATHWAY_GENES = 3
SHARED_RELATIONS: tuple[Relation, ...] = (
    REGULATES,
    PROTEIN_INTERACTS,
    CODES_FOR,
    ASSOCIATED_WITH,
    CORRELATES_WITH,
)


def build_topology(contract: Contract, pack: KnowledgePack | None) -> Topology:
    """Build the graph that all patients of a study share.

    Nodes stand in the order of the panel; ``panel = "knowledge"`` takes every gene, protein or metabolite
    of the pack in the pack's order. Gene layers stand in the order of ``GENE_LAYERS``. Every relation whose
    two node types the study uses is there, possibly without edges. Pathways with fewer than three genes of
    the panel are left out.

    Raises
    ------
    ModelError
        ``MMF-608`` when a panel is empty, names a gene twice, needs a pack that is not given, or a declared
        relation names an unknown node.
    """
    nodes = _nodes(contract, pack)
    channels = _channels(contract)
    index = {name: {node: i for i, node in enumerate(listed)} for name, listed in nodes.items()}
    if "gene" in index and pack is not None:
        index["gene"] = _approved_index(nodes["gene"], pack)
    edges = _study_edges(contract, index, None if pack is None else pack.symbols)
    names: tuple[str, ...] = ()
    membership = EdgeList.build(torch.zeros(0), torch.zeros(0))
    if pack is not None:
        edges |= _known_edges(pack, index)
        names, membership = _pathways(pack, index.get("gene", {}))
    for relation in SHARED_RELATIONS:
        if relation[0] in nodes and relation[2] in nodes:
            edges.setdefault(relation, _edge_list([]))
    references = {} if pack is None else _references(pack, nodes, channels)
    return Topology(nodes, channels, {r: edges[r] for r in sorted(edges)}, names, membership, references)


def _nodes(contract: Contract, pack: KnowledgePack | None) -> dict[str, tuple[str, ...]]:
    known: dict[str, tuple[str, ...]] = {}
    if pack is not None:
        proteins = tuple(protein.name for protein in pack.proteins)
        known = {"gene": pack.genes, "protein": proteins, "metabolite": pack.metabolites}
    nodes: dict[str, tuple[str, ...]] = {}
    for name in contract.node_types:
        if name == "clinical_feature":
            nodes[name] = contract.clinical_features()
        elif name == "imaging_feature":
            tiles = contract.imaging.maximum_tiles if contract.imaging is not None else 0
            nodes[name] = tuple(f"tile-{i}" for i in range(tiles))
        else:
            panel = getattr(contract, name).panel
            if panel == "knowledge" and pack is None:
                raise ModelError("MMF-608", 'the panel is "knowledge" but no pack is given', name)
            nodes[name] = known[name] if panel == "knowledge" else tuple(panel)
        if not nodes[name]:
            raise ModelError("MMF-608", "the panel has no member", name)
        if len(set(nodes[name])) < len(nodes[name]):
            raise ModelError("MMF-608", f"the panel names {_first_twice(nodes[name])!r} twice", name)
    return nodes


def _channels(contract: Contract) -> dict[str, tuple[str, ...]]:
    channels: dict[str, tuple[str, ...]] = {}
    for name in contract.node_types:
        if name == "gene" and contract.gene is not None:
            channels[name] = tuple(layer for layer in GENE_LAYERS if layer in contract.gene.layers)
        elif name == "imaging_feature" and contract.imaging is not None:
            channels[name] = contract.imaging.features
        else:
            channels[name] = ("value",)
    return channels


def _first_twice(names: Sequence[str]) -> str:
    return next(name for i, name in enumerate(names) if name in names[:i])


def _approved_index(panel: tuple[str, ...], pack: KnowledgePack) -> dict[str, int]:
    """Index a gene panel by its own names and by the approved symbols they mean."""
    index = {name: i for i, name in enumerate(panel)}
    means: dict[str, str] = {}
    symbols = pack.symbols
    for i, name in enumerate(panel):
        approved = symbols.resolve(name) or name
        if means.setdefault(approved, name) != name:
            raise ModelError("MMF-608", f"{means[approved]!r} and {name!r} are both {approved}", "gene")
        index[approved] = i
    return index


def _edge_list(pairs: Iterable[tuple[int, int]]) -> EdgeList:
    listed = list(pairs)
    source = torch.tensor([a for a, _ in listed], dtype=torch.int64)
    target = torch.tensor([b for _, b in listed], dtype=torch.int64)
    return EdgeList.build(source, target)


def _known_edges(pack: KnowledgePack, index: Mapping[str, Mapping[str, int]]) -> dict[Relation, EdgeList]:
    edges: dict[Relation, EdgeList] = {}
    for relation, pairs in pack.relations.items():
        if relation[0] in index and relation[2] in index:
            left, right = index[relation[0]], index[relation[2]]
            edges[relation] = _edge_list(
                (left[p.source], right[p.target]) for p in pairs if p.source in left and p.target in right
            )
    if "gene" in index and "protein" in index:
        genes, proteins = index["gene"], index["protein"]
        edges[CODES_FOR] = _edge_list(
            (genes[gene], proteins[protein.name])
            for protein in pack.proteins
            if protein.name in proteins
            for gene in protein.genes
            if gene in genes
        )
    return edges


def _pathways(pack: KnowledgePack, genes: Mapping[str, int]) -> tuple[tuple[str, ...], EdgeList]:
    members = {name: [genes[g] for g in listed if g in genes] for name, listed in pack.pathways.items()}
    names = tuple(name for name, listed in members.items() if len(listed) >= LEAST_PATHWAY_GENES)
    return names, _edge_list((gene, i) for i, name in enumerate(names) for gene in members[name])


def _references(
    pack: KnowledgePack, nodes: Mapping[str, Sequence[str]], channels: Mapping[str, Sequence[str]]
) -> dict[str, Tensor]:
    """What the pack knows of the study's features in public data; genes go by their approved symbols."""
    found = {}
    symbols = pack.symbols
    for node_type, rows in nodes.items():
        if node_type == "imaging_feature":
            known, wanted = [pack.references.get(node_type, {})], [list(channels[node_type])]
        else:
            listed = [symbols.resolve(n) or n for n in rows] if node_type == "gene" else list(rows)
            known = [pack.references.get(f"{node_type}.{channel}", {}) for channel in channels[node_type]]
            wanted = [listed] * len(known)
        pairs = [
            [among.get(n, (math.nan, math.nan)) for n in names]
            for among, names in zip(known, wanted, strict=True)
        ]
        table = torch.tensor(pairs, dtype=torch.float32)  # (channels, rows, 2); imaging: (1, features, 2)
        table = table.permute(2, 0, 1) if node_type == "imaging_feature" else table.permute(2, 1, 0)
        if not bool(table.isnan().all()):
            found[node_type] = table.contiguous()
    return found


def _study_edges(
    contract: Contract, index: Mapping[str, Mapping[str, int]], symbols: SymbolTable | None
) -> dict[Relation, EdgeList]:
    """Edges that the study declares; a categorical column stands for all of its features."""
    if contract.relations.source != "study":
        return {}
    clinical = index.get("clinical_feature", {})
    features = {name: [i] for name, i in clinical.items()}
    for name, column in contract.columns.items():
        if column.kind == "category":
            features[name] = [clinical[f"{name}={value}"] for value in column.values[1:]]
    genes = {name: [i] for name, i in index.get("gene", {}).items()}

    def find(table: Mapping[str, list[int]], name: str, key: str) -> list[int]:
        if name not in table:
            raise ModelError("MMF-608", f"{name!r} is not a node of this study", f"contract.relations.{key}")
        return table[name]

    edges: dict[Relation, EdgeList] = {}
    if contract.relations.clinical_pairs:
        both: list[tuple[int, int]] = []
        for first, second in contract.relations.clinical_pairs:
            left, right = find(features, first, "clinical_pairs"), find(features, second, "clinical_pairs")
            both += [pair for a in left for b in right if a != b for pair in ((a, b), (b, a))]
        edges[CORRELATES_WITH] = _edge_list(both)
    if contract.relations.gene_clinical_pairs:
        edges[ASSOCIATED_WITH] = _edge_list(
            (a, b)
            for gene, feature in contract.relations.gene_clinical_pairs
            for a in find(genes, _known_name(gene, genes, symbols), "gene_clinical_pairs")
            for b in find(features, feature, "gene_clinical_pairs")
        )
    return edges


def _known_name(gene: str, genes: Mapping[str, list[int]], symbols: SymbolTable | None) -> str:
    approved = None if gene in genes or symbols is None else symbols.resolve(gene)
    return approved or gene
