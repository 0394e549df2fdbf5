"""Patient graphs: the topology that a study's patients share, and one patient as a heterogeneous graph.

Topologies come from the contract and the knowledge pack; what differs between patients is data on them.
"""

from mmfed_common.graph.build import build_topology
from mmfed_common.graph.correlations import with_site_correlations
from mmfed_common.graph.links import patient_gene_links
from mmfed_common.graph.neighbours import knn_neighbours
from mmfed_common.graph.patient_graph import PatientGraphBuilder, to_patients

__all__ = [
    "PatientGraphBuilder",
    "build_topology",
    "knn_neighbours",
    "patient_gene_links",
    "to_patients",
    "with_site_correlations",
]
