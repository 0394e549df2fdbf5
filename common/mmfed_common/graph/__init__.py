"""Patient graphs: the topology that a study's patients share, and one patient as a heterogeneous graph.

Topologies come from the contract and the knowledge pack; what differs between patients is data on them.
"""

from mmfed_common.graph.build import build_topology
from mmfed_common.graph.links import patient_gene_links
from mmfed_common.graph.neighbours import knn_neighbours

__all__ = ["build_topology", "knn_neighbours", "patient_gene_links"]
