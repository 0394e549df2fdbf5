"""The graph that all patients of a study share: nodes, relations and pathways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Relation = tuple[str, str, str]

REGULATES: Relation = ("gene", "interacts_with", "gene")
PROTEIN_INTERACTS: Relation = ("protein", "interacts_with", "protein")
CODES_FOR: Relation = ("gene", "codes_for", "protein")
ASSOCIATED_WITH: Relation = ("gene", "associated_with", "clinical_feature")
CORRELATES_WITH: Relation = ("clinical_feature", "correlates_with", "clinical_feature")
SPATIAL: Relation = ("imaging_feature", "spatial_adjacent", "imaging_feature")

HAS_RELATION: dict[str, Relation] = {
    "gene": ("patient", "has_gene", "gene"),
    "protein": ("patient", "has_protein", "protein"),
    "metabolite": ("patient", "has_metabolite", "metabolite"),
    "clinical_feature": ("patient", "has_clinical", "clinical_feature"),
    "imaging_feature": ("patient", "has_imaging", "imaging_feature"),
}


@dataclass(frozen=True)
class EdgeList:
    """Directed edges, sorted by target and then by source, without duplicates or self-loops.

    Attributes
    ----------
    source, target
        ``(edges,)`` int64 node indices.
    """

    source: Tensor
    target: Tensor

    @staticmethod
    def build(source: Tensor, target: Tensor, *, drop_self_loops: bool = False) -> EdgeList:
        """Sort and deduplicate."""
        if drop_self_loops:
            keep = source != target
            source, target = source[keep], target[keep]
        if source.numel() == 0:
            empty = torch.zeros(0, dtype=torch.int64)
            return EdgeList(empty, empty.clone())
        pairs = torch.unique(torch.stack([target, source], dim=1).to(torch.int64), dim=0)
        return EdgeList(pairs[:, 1].contiguous(), pairs[:, 0].contiguous())

    def __len__(self) -> int:
        return int(self.source.numel())


@dataclass(frozen=True)
class Topology:
    """What all patients of a study share.

    Attributes
    ----------
    nodes
        Node type → names of its nodes, in tensor order. ``imaging_feature``: one name per tile slot.
    channels
        Node type → names of its channels, e.g. ``("expression", "mutation")`` for genes; imaging: the
        feature names.
    edges
        Relation → shared edges. Imaging adjacency differs between patients and is not here.
    pathways
        Names of the pathways.
    membership
        ``source`` = gene index, ``target`` = pathway index.
    references
        Node type → ``(2, rows, channels)`` float32, mean and deviation of each feature in public data, NaN
        where not known; one row for all tile slots. Only node types of which something is known.
    """

    nodes: Mapping[str, tuple[str, ...]]
    channels: Mapping[str, tuple[str, ...]]
    edges: Mapping[Relation, EdgeList]
    pathways: tuple[str, ...]
    membership: EdgeList
    references: Mapping[str, Tensor] = field(default_factory=dict)
