"""The names of a model's nodes: what its weights are about, so that another study can take them over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmfed_common.topology import Topology

OTHERS = ""
"""Stands for the group of genes that are in no pathway."""


@dataclass(frozen=True)
class NodeNames:
    """Names, in the order in which the model's tensors hold them.

    Attributes
    ----------
    nodes, channels
        Node type → names of its nodes, and of the values of each; see :class:`.Topology`.
    pathways
        Pathway → its genes.
    """

    nodes: Mapping[str, tuple[str, ...]]
    channels: Mapping[str, tuple[str, ...]]
    pathways: Mapping[str, tuple[str, ...]]

    @staticmethod
    def of(topology: Topology) -> NodeNames:
        """Take the names out of a graph."""
        genes = topology.nodes.get("gene", ())
        members: dict[str, list[str]] = {name: [] for name in topology.pathways}
        pairs = zip(topology.membership.source.tolist(), topology.membership.target.tolist(), strict=True)
        for gene, pathway in pairs:
            members[topology.pathways[pathway]].append(genes[gene])
        pathways = {name: tuple(listed) for name, listed in members.items()}
        return NodeNames(dict(topology.nodes), dict(topology.channels), pathways)

    @property
    def groups(self) -> tuple[str, ...]:
        """The pathways, and :data:`OTHERS` where some gene is in none; none of them without pathways."""
        return tuple(dict.fromkeys(pathway for _, pathway in self.memberships))

    @property
    def memberships(self) -> tuple[tuple[str, str], ...]:
        """Gene and pathway of each weight of a membership, in the order of :func:`.pathway_edges`."""
        if not self.pathways:
            return ()
        within = {gene for listed in self.pathways.values() for gene in listed}
        listed = [(gene, name) for name, genes in self.pathways.items() for gene in genes]
        return (*listed, *((gene, OTHERS) for gene in self.nodes["gene"] if gene not in within))

    def as_dict(self) -> dict[str, Any]:
        """The same as lists: order counts, and JSON objects have none."""
        return {
            part: [[name, list(listed)] for name, listed in getattr(self, part).items()]
            for part in ("nodes", "channels", "pathways")
        }

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> NodeNames:
        """Undo :meth:`as_dict`; raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        parts = {
            part: {str(name): tuple(str(entry) for entry in listed) for name, listed in content[part]}
            for part in ("nodes", "channels", "pathways")
        }
        return NodeNames(**parts)
