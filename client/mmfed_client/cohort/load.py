"""From ``cohort.toml`` to patients as tensors: everything is checked, every fault is collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from mmfed_client.cohort.clinical import read_clinical
from mmfed_client.cohort.description import CohortDescription
from mmfed_client.cohort.imaging import read_imaging
from mmfed_client.cohort.leakage import leaked_columns, leaked_measurements, leaked_values, targets
from mmfed_client.cohort.measurements import read_genes, read_panel
from mmfed_client.cohort.outcomes import read_outcomes
from mmfed_client.cohort.reading import Reading
from mmfed_client.cohort.roster import read_roster
from mmfed_client.cohort.tables import Table, open_table
from mmfed_common.contract import Contract
from mmfed_common.errors import CohortError, DataError, Fault
from mmfed_common.knowledge.symbols import SymbolTable
from mmfed_common.patients import NodeTensors, PatientTensors
from mmfed_common.topology import Topology


@dataclass(frozen=True)
class Cohort:
    """The patients of a cohort, ready for a study.

    Attributes
    ----------
    patients
        Raw values in the contract's units, after transform and clipping, not standardised.
    sites
        One site name per patient; ``"site"`` where the cohort has no site column.
    folds
        One fold per patient, or ``None`` where the cohort has no fold column.
    warnings
        What was found and does not stop the study.
    """

    patients: PatientTensors
    sites: tuple[str, ...]
    folds: tuple[int, ...] | None
    warnings: tuple[Fault, ...]

    def by_site(self) -> dict[str, Cohort]:
        """Split by site, in the order of the sites' names."""
        names = sorted(set(self.sites))
        if len(names) == 1:
            return {names[0]: self}
        parts = {}
        for name in names:
            index = [i for i, site in enumerate(self.sites) if site == name]
            folds = None if self.folds is None else tuple(self.folds[i] for i in index)
            patients = self.patients.select(torch.tensor(index, dtype=torch.int64))
            parts[name] = Cohort(patients, (name,) * len(index), folds, self.warnings)
        return parts


def load_cohort(
    description: CohortDescription,
    contract: Contract,
    topology: Topology,
    symbols: SymbolTable | None = None,
) -> Cohort:
    """Read and check a cohort.

    Parameters
    ----------
    symbols
        Resolves old gene names; without it only the panel's own names are found.

    Raises
    ------
    CohortError
        ``MMF-200`` with every fault.
    """
    cohort, faults = _read(description, contract, topology, symbols)
    if cohort is None or any(fault.severity == "error" for fault in faults):
        raise CohortError(faults)
    return cohort


def check_cohort(
    description: CohortDescription, contract: Contract, topology: Topology, symbols: SymbolTable | None
) -> list[Fault]:
    """Find every fault of a cohort, errors first; an empty list means that it meets the contract."""
    return _read(description, contract, topology, symbols)[1]


def _read(
    description: CohortDescription, contract: Contract, topology: Topology, symbols: SymbolTable | None
) -> tuple[Cohort | None, list[Fault]]:
    tables, faults = _open_tables(description, contract)
    faults += leaked_columns(description, tuple(contract.columns))
    faults += leaked_measurements(description, _panels(contract, topology))
    if description.patient_table not in tables:
        return None, _sorted(faults)
    try:
        everybody, new = read_roster(description, tables[description.patient_table])
    except DataError as error:
        return None, _sorted([*faults, _as_fault(error)])
    faults += new
    if not len(everybody):
        faults.append(Fault("MMF-219", "the patient table has no patient", description.patient_table))
        return None, _sorted(faults)
    outcomes, new = read_outcomes(description, contract, tables, everybody)
    faults += new
    broken = any(fault.severity == "error" for fault in new)
    keep = np.arange(len(everybody)) if broken else np.flatnonzero(outcomes.any_known())
    if keep.size < len(everybody):
        count = len(everybody) - int(keep.size)
        what = f"{count} patient(s) have no known outcome of this study and are left out"
        faults.append(Fault("MMF-221", what, description.patient_table, None, "", count, "warning"))
    roster, outcomes = everybody.select(keep), outcomes.select(keep)
    reading = Reading(description, contract, topology, tables, everybody, roster)
    nodes, new = _read_nodes(reading, symbols)
    faults += new
    patients = PatientTensors(roster.patient_ids, nodes, outcomes.tensors())
    faults += leaked_values(patients, topology, targets(outcomes, *_names(contract)))
    faults = _sorted(faults)
    return Cohort(patients, roster.sites, roster.folds, tuple(faults)), faults


def _read_nodes(reading: Reading, symbols: SymbolTable | None) -> tuple[dict[str, NodeTensors], list[Fault]]:
    nodes: dict[str, NodeTensors] = {}
    faults: list[Fault] = []
    for node_type in reading.contract.node_types:
        try:
            nodes[node_type], new = _read_node_type(reading, node_type, symbols)
            faults += new
        except DataError as error:
            faults.append(_as_fault(error))
    return nodes, faults


def _read_node_type(
    reading: Reading, node_type: str, symbols: SymbolTable | None
) -> tuple[NodeTensors, list[Fault]]:
    if node_type == "clinical_feature":
        return read_clinical(reading)
    if node_type == "gene":
        return read_genes(reading, symbols)
    if node_type == "imaging_feature":
        return read_imaging(reading)
    return read_panel(reading, node_type)


def _open_tables(
    description: CohortDescription, contract: Contract
) -> tuple[Mapping[str, Table], list[Fault]]:
    """Open every table that the study needs."""
    opened: dict[str, Table] = {}
    faults = []
    for name in _needed(description, contract):
        file = description.tables[name]
        try:
            opened[name] = open_table(name, file, description.id_column(name))
        except DataError as error:
            faults.append(_as_fault(error))
    return opened, faults


def _as_fault(error: DataError) -> Fault:
    return Fault(error.code, error.what, error.where)


def _needed(description: CohortDescription, contract: Contract) -> list[str]:
    sources = description.feature_sources()
    names = [description.patient_table]
    names += [sources[column][0] for column in contract.columns if column in sources]
    if contract.gene is not None:
        layers = description.gene.layers
        names += [layers[name].table for name in contract.gene.layers if name in layers]
    for name in ("protein", "metabolite", "imaging"):
        section = getattr(description, name)
        if section is not None and getattr(contract, name) is not None:
            names.append(section.table)
    for name in contract.tasks:
        section = getattr(description.outcome, name)
        if section is not None:
            names.append(section.table)
    return list(dict.fromkeys(names))


def _panels(contract: Contract, topology: Topology) -> dict[str, tuple[str, ...]]:
    panels = {name: topology.nodes.get(name, ()) for name in ("gene", "protein", "metabolite")}
    panels["imaging"] = contract.imaging.features if contract.imaging is not None else ()
    return panels


def _names(contract: Contract) -> tuple[tuple[str, ...], tuple[str, ...]]:
    classes = contract.response.classes if contract.response is not None else ()
    labels = contract.toxicity.labels if contract.toxicity is not None else ()
    return classes, labels


def _sorted(faults: list[Fault]) -> list[Fault]:
    """Drop repetitions; errors first, otherwise in the order found."""
    return sorted(dict.fromkeys(faults), key=lambda fault: fault.severity != "error")


__all__ = ["Cohort", "check_cohort", "load_cohort"]
