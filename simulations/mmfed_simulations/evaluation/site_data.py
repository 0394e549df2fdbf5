"""From a cohort to what sites bring to a study: split by site, pooled, or reduced to one modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from mmfed_client.cohort import Cohort
from mmfed_client.opening import site_data, with_own_relations
from mmfed_client.site import SiteData
from mmfed_common.contract import Contract
from mmfed_common.patients import PatientTensors
from mmfed_common.study import Study
from mmfed_common.topology import EdgeList, Topology
from mmfed_simulations.evaluation.gaps.hidden import NOTHING, Hidden, without_in_training

POOLED_SITE = "pooled"


def sites_of(study: Study, cohort: Cohort, topology: Topology, hidden: Hidden = NOTHING) -> list[SiteData]:
    """Split a cohort into sites, sorted by name, each with the patients that the study's rule holds out.

    ``hidden`` takes modalities from training patients, before anything is learned from them.
    """
    sites = []
    for name, part in cohort.by_site().items():
        patients = part.patients
        if hidden.share > 0:
            patients = without_in_training(study, name, part, hidden)
        sites.append(site_data(study, name, patients, part.folds, topology))
    return sites


def pooled_site(study: Study, sites: Sequence[SiteData], topology: Topology) -> SiteData:
    """Put all patients of all sites at one; who is held out stays as it was."""
    folds = [site.folds for site in sites]
    joined = None if any(f is None for f in folds) else tuple(f for part in folds for f in part or ())
    patients = join_patients([site.patients for site in sites])
    held_out = np.concatenate([site.held_out for site in sites])
    return with_own_relations(study, SiteData(POOLED_SITE, patients, held_out, topology, joined))


def join_patients(parts: Sequence[PatientTensors]) -> PatientTensors:
    """Put patients of several sites one after the other."""
    first, *rest = parts
    nodes = {}
    for name, node in first.nodes.items():
        every = [node, *(part.nodes[name] for part in rest)]
        neighbours = [one.neighbours for one in every if one.neighbours is not None]
        nodes[name] = replace(
            node,
            values=torch.cat([one.values for one in every]),
            present=torch.cat([one.present for one in every]),
            neighbours=torch.cat(neighbours) if neighbours else None,
        )
    columns = first.outcomes.__dataclass_fields__
    outcomes = replace(
        first.outcomes,
        **{name: torch.cat([getattr(part.outcomes, name) for part in parts]) for name in columns},
    )
    return PatientTensors(tuple(i for part in parts for i in part.patient_ids), nodes, outcomes)


def only_modalities(site: SiteData, contract: Contract) -> SiteData:
    """Leave only the node types that a reduced contract still has."""
    keep = contract.node_types
    patients = replace(site.patients, nodes={name: site.patients.nodes[name] for name in keep})
    return SiteData(site.name, patients, site.held_out, only_nodes(site.topology, keep), site.folds)


def only_nodes(topology: Topology, keep: Sequence[str]) -> Topology:
    """Leave only some node types, the relations between them, and pathways if there are genes."""
    edges = {r: e for r, e in topology.edges.items() if r[0] in keep and r[2] in keep}
    genes = "gene" in keep
    empty = EdgeList.build(torch.zeros(0), torch.zeros(0))
    return Topology(
        {name: nodes for name, nodes in topology.nodes.items() if name in keep},
        {name: channels for name, channels in topology.channels.items() if name in keep},
        edges,
        topology.pathways if genes else (),
        topology.membership if genes else empty,
        {name: known for name, known in topology.references.items() if name in keep},
    )
