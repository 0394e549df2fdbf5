"""How a site opens its cohort for a study: the one way, in a simulation and in a hospital."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmfed_client.cohort import Cohort, load_cohort, load_description
from mmfed_client.site import SiteData
from mmfed_client.training.reproducible import same_bits
from mmfed_common.errors import MachineError, ModelError
from mmfed_common.graph import build_topology, with_site_correlations
from mmfed_common.knowledge import KnowledgePack
from mmfed_common.patients import PatientTensors
from mmfed_common.scaling import Moments, Scaling
from mmfed_common.study import Study
from mmfed_common.topology import Topology


def open_site(
    study: Study, name: str, description: Path, pack: Path | None, data_root: Path | None = None
) -> SiteData:
    """Read a site's own cohort for a study.

    Gives what a simulation gives for a cohort folder of this name, bit for bit.

    Parameters
    ----------
    name
        The site.
    description
        ``cohort.toml``, or the folder that holds it.
    pack
        The study's knowledge pack; None where the study names none.
    data_root
        Where the tables lie, if not beside ``cohort.toml``.

    Raises
    ------
    CohortError
        ``MMF-200`` with every fault.
    DataError
        ``MMF-201`` when there is no usable ``cohort.toml``.
    ModelError
        ``MMF-602`` when the pack is another than the study's, or is missing.
    MachineError
        ``MMF-119`` when the cohort's site column names several sites and this is none of them.
    """
    knowledge, topology = read_knowledge(study, pack)
    symbols = None if knowledge is None else knowledge.symbols
    cohort = load_cohort(load_description(description, data_root), study.contract, topology, symbols)
    part = own_part(cohort, name)
    return site_data(study, name, part.patients, part.folds, topology)


def read_knowledge(study: Study, pack: Path | None) -> tuple[KnowledgePack | None, Topology]:
    """Read the study's knowledge pack, checked against its hash, and build the graph that it gives.

    Raises
    ------
    ModelError
        ``MMF-602`` when it is another pack than the study's, or is missing.
    """
    reference = study.contract.knowledge
    if reference is None:
        return None, build_topology(study.contract, None)
    if pack is None:
        raise ModelError("MMF-602", f"the study needs the pack {reference.sha256}, which is not here")
    named = reference.model_copy(update={"file": pack.name})
    knowledge = KnowledgePack.load_for(named, pack.parent)
    return knowledge, build_topology(study.contract, knowledge)


def own_part(cohort: Cohort, name: str) -> Cohort:
    """The rows of a site: all of them, unless the cohort's site column tells several sites apart.

    Raises
    ------
    MachineError
        ``MMF-119`` when it does, and this site is none of them.
    """
    if len(set(cohort.sites)) <= 1:
        return cohort
    parts = cohort.by_site()
    if name not in parts:
        raise MachineError("MMF-119", f"it names {', '.join(sorted(parts))}, not {name}")
    return parts[name]


def site_data(
    study: Study,
    name: str,
    patients: PatientTensors,
    folds: Sequence[int] | None,
    topology: Topology,
) -> SiteData:
    """Make one site; correlation relations, if the contract asks for them, come from its training part."""
    held_out = study.held_out_rule.held_out(patients.patient_ids, name, folds)
    site = SiteData(name, patients, held_out, topology, None if folds is None else tuple(folds))
    return with_own_relations(study, site)


def with_own_relations(study: Study, site: SiteData) -> SiteData:
    """Add the correlation relations that a site finds among its own training patients, if the study asks."""
    if study.contract.relations.source != "site" or site.held_out.all():
        return site
    training = site.training
    with same_bits(study.study.seed):
        scaling = Scaling.from_moments(Moments.of(training), study.contract, site.topology)
        topology = with_site_correlations(site.topology, training, scaling, study.contract)
    return replace(site, topology=topology)
