"""The cohorts of a simulation: one table set with a site column, or one sub-folder for each site."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mmfed_client.cohort import Cohort, check_cohort, load_cohort, load_description
from mmfed_client.opening import read_knowledge
from mmfed_client.site import SiteData
from mmfed_common.errors import CohortError, DataError, Fault, StudyError
from mmfed_common.knowledge import KnowledgePack, SymbolTable
from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_simulations.evaluation.site_data import join_patients, sites_of

DESCRIPTION = "cohort.toml"
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class LoadedConsortium:
    """All cohorts of a simulation, read and checked for one study.

    Attributes
    ----------
    study
        The study.
    cohort
        The patients of all sites; ``cohort.sites`` says whose they are.
    topology
        The shared graph.
    """

    study: Study
    cohort: Cohort
    topology: Topology

    def sites(self) -> list[SiteData]:
        """The sites, sorted by name, each with the patients that the study holds out."""
        return sites_of(self.study, self.cohort, self.topology)


def load_consortium(
    path: Path,
    study: Study,
    study_folder: Path,
    data_root: Path | None = None,
    progress: Progress | None = None,
) -> LoadedConsortium:
    """Read every cohort below ``path``.

    Parameters
    ----------
    path
        A folder with ``cohort.toml``, or with one sub-folder for each site that has one.
    study_folder
        Where the study's knowledge pack lies.
    data_root
        Where the tables lie, if not beside ``cohort.toml``.
    progress
        Called with (sites read, sites, name) after each.

    Raises
    ------
    DataError
        ``MMF-201`` when there is no cohort.
    CohortError
        ``MMF-200`` with every fault of every site.
    StudyError
        ``MMF-506`` when a patient is at two sites, ``MMF-507`` when the study holds out by fold and only some
        sites have folds.
    """
    pack, topology = knowledge_of(study, study_folder)
    symbols = None if pack is None else pack.symbols
    folders = find_cohorts(path)
    parts: dict[str, Cohort] = {}
    faults: list[Fault] = []
    for number, (name, folder) in enumerate(folders.items(), start=1):
        description = load_description(folder, data_root)
        try:
            cohort = load_cohort(description, study.contract, topology, symbols)
        except CohortError as error:
            faults += [_at(name, fault) for fault in error.faults]
        else:
            parts[name] = cohort if name == "" else _named(cohort, name)
        if progress is not None:
            progress(number, len(folders), name or path.name)
    if any(fault.severity == "error" for fault in faults):
        raise CohortError(faults)
    _refuse_missing_folds(study, parts)
    joined = _join(parts)
    refuse_shared_patients(joined)
    return LoadedConsortium(study, joined, topology)


def join_consortia(parts: Mapping[str, LoadedConsortium]) -> LoadedConsortium:
    """Put the sites of several cohorts into one federation.

    A site whose name is also one of another cohort gets its cohort's name in front: ``BRCA-OTHER``.

    Parameters
    ----------
    parts
        Name of a cohort → its patients, all read for the same study.

    Raises
    ------
    StudyError
        ``MMF-506`` when a patient is in two cohorts, ``MMF-507`` as :func:`load_consortium`.
    """
    homes: dict[str, set[str]] = {}
    for name, part in parts.items():
        for site in part.cohort.sites:
            homes.setdefault(site, set()).add(name)
    named = {}
    for name, part in parts.items():
        sites = tuple(s if len(homes[s]) == 1 else f"{name}-{s}" for s in part.cohort.sites)
        named[name] = replace(part.cohort, sites=sites)
    first = next(iter(parts.values()))
    _refuse_missing_folds(first.study, named)
    joined = _join(named)
    refuse_shared_patients(joined)
    return LoadedConsortium(first.study, joined, first.topology)


def check_consortium(
    path: Path, study: Study, study_folder: Path, data_root: Path | None = None
) -> dict[str, list[Fault]]:
    """Find every fault of every cohort below ``path``: site name (``""`` for one table set) → faults."""
    pack, topology = knowledge_of(study, study_folder)
    symbols: SymbolTable | None = None if pack is None else pack.symbols
    found = {}
    for name, folder in find_cohorts(path).items():
        try:
            description = load_description(folder, data_root)
        except DataError as error:
            found[name] = [Fault(error.code, error.what)]
        else:
            found[name] = check_cohort(description, study.contract, topology, symbols)
    return found


def knowledge_of(study: Study, folder: Path) -> tuple[KnowledgePack | None, Topology]:
    """The study's knowledge pack, checked against its hash, and the graph it gives."""
    reference = study.contract.knowledge
    return read_knowledge(study, None if reference is None else folder / reference.file)


def find_cohorts(path: Path) -> dict[str, Path]:
    """Site name → folder with ``cohort.toml``; one table set has the name ``""``.

    Raises
    ------
    DataError
        ``MMF-201`` when there is none.
    """
    if (path / DESCRIPTION).is_file():
        return {"": path}
    found = {folder.parent.name: folder.parent for folder in sorted(path.glob(f"*/{DESCRIPTION}"))}
    if not found:
        what = f"no {DESCRIPTION} in this folder or in one of its sub-folders"
        raise DataError("MMF-201", what if path.is_dir() else "there is no such folder", str(path))
    return found


def refuse_shared_patients(cohort: Cohort) -> None:
    """Raise ``MMF-506`` if a patient is at more than one site."""
    home: dict[str, str] = {}
    for patient, site in zip(cohort.patients.patient_ids, cohort.sites, strict=True):
        if home.setdefault(patient, site) != site:
            raise StudyError("MMF-506", f"patient {patient} is at {home[patient]} and at {site}")


def _named(cohort: Cohort, name: str) -> Cohort:
    """Call a site by its folder, unless its own site column says more."""
    own = cohort.sites if len(set(cohort.sites)) > 1 else (name,) * len(cohort.sites)
    return Cohort(cohort.patients, own, cohort.folds, tuple(_at(name, fault) for fault in cohort.warnings))


def _join(parts: dict[str, Cohort]) -> Cohort:
    cohorts = list(parts.values())
    folds = [cohort.folds for cohort in cohorts]
    return Cohort(
        join_patients([cohort.patients for cohort in cohorts]),
        tuple(site for cohort in cohorts for site in cohort.sites),
        None if any(f is None for f in folds) else tuple(f for part in folds for f in part or ()),
        tuple(fault for cohort in cohorts for fault in cohort.warnings),
    )


def _refuse_missing_folds(study: Study, parts: dict[str, Cohort]) -> None:
    """Joined cohorts have folds all or none; where the study needs them, say which site lacks them."""
    missing = [name for name, cohort in parts.items() if cohort.folds is None]
    if study.evaluation.rule == "fold" and 0 < len(missing) < len(parts):
        sites = ", ".join(missing)
        raise StudyError("MMF-507", "the study holds out by fold, and these sites have no folds", sites)


def _at(site: str, fault: Fault) -> Fault:
    """Say at which site a fault was found."""
    if not site:
        return fault
    where = f"{site}/{fault.table}" if fault.table else site
    return Fault(fault.code, fault.what, where, fault.row, fault.column, fault.count, fault.severity)
