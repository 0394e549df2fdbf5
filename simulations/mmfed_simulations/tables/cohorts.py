"""The public cohorts of the tables, opened with the study that is written for each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mmfed_common.errors import DataError
from mmfed_common.study import Study
from mmfed_simulations.consortium import LoadedConsortium, load_consortium
from mmfed_simulations.knowledge.build import PackSettings, build_pack
from mmfed_simulations.knowledge.column_names import column_names
from mmfed_simulations.knowledge.source_files import choose_sources
from mmfed_simulations.synthetic import make_consortium, write_consortium
from mmfed_simulations.synthetic.settings import SyntheticSettings

COHORTS = ("LUAD", "BRCA", "KIRC", "BLCA", "SKCM")
"""TCGA cohorts, in the order of the tables."""
WITHOUT_IMAGING = ("BRCA", "KIRC", "BLCA")
"""Those whose studies have no imaging."""
WITH_RESPONSE = ("LUAD", "BRCA", "BLCA", "SKCM")
"""Those with more than a hundred patients whose response is known."""
SYNTHETIC = "synthetic"
RESPONSE: dict[str, Any] = {
    "classes": ["none", "response"],
    "aliases": {"PD": "none", "SD": "none", "PR": "response", "CR": "response"},
}
"""Objective response: complete or partial."""
PACK = "hallmark.mmfk"


@dataclass(frozen=True)
class Places:
    """Where things lie.

    Attributes
    ----------
    studies
        ``simulations/studies``: a folder ``tcga`` with one sub-folder a cohort, each with its study.
    data
        Public data: folders ``tcga_multimodal``, ``knowledge``, …
    work
        Trainings are kept here, so that a row is never trained twice.
    """

    studies: Path
    data: Path
    work: Path

    def tcga(self, name: str) -> LoadedConsortium:
        """One TCGA cohort, read and checked for its study.

        Raises
        ------
        DataError
            ``MMF-201`` when the tables are not there.
        ModelError
            ``MMF-602`` when the knowledge pack that the data gives is not the one that the study names.
        CohortError
            ``MMF-200`` when the patients are not as the study needs them.
        """
        return _open_tcga(self, name)

    def with_proteins(self, name: str) -> LoadedConsortium:
        """A TCGA cohort whose study also reads the proteins of its reverse-phase protein array.

        Raises
        ------
        MmfedError
            As :meth:`tcga`.
        """
        return _open_tcga(self, name, proteins=True)

    def with_response(self, name: str) -> LoadedConsortium:
        """A TCGA cohort whose study also predicts the response, or the synthetic consortium with everything.

        Raises
        ------
        MmfedError
            As :meth:`tcga`.
        """
        return _open_synthetic(self) if name == SYNTHETIC else _open_tcga(self, name, responses=True)

    def build_pack(self) -> Path:
        """The knowledge pack of the TCGA studies, built where it is not there yet."""
        # The same pack as simulations/studies/tcga/pack.sh builds: a change belongs in both.
        out = self.studies / "tcga" / PACK
        if out.is_file():
            return out
        expression = [self.tables_of(name) / "expression.parquet" for name in COHORTS]
        settings = PackSettings(
            genes=column_names(expression, "all"),
            genes_in_pathways=True,
            gene_edges="both",
            proteins="none",
        )
        build_pack(choose_sources(self.data / "knowledge", [], ["hallmark"]), out, settings)
        return out

    def tables_of(self, name: str) -> Path:
        """Folder of a TCGA cohort's tables.

        Raises
        ------
        DataError
            ``MMF-201`` when it is not there.
        """
        folder = self.data / "tcga_multimodal" / name
        if not folder.is_dir():
            raise DataError("MMF-201", "the folder of the cohort's tables is not there", str(folder))
        return folder


@lru_cache(maxsize=2 * len(COHORTS))
def _open_tcga(
    places: Places, name: str, *, responses: bool = False, proteins: bool = False
) -> LoadedConsortium:
    """Each cohort is read once: rows of one cohort share it."""
    folder = places.studies / "tcga" / name
    study = Study.load(folder / "study.toml")
    if responses:
        study = study.with_changes(contract={"response": RESPONSE})
    if proteins:
        table = pq.read_schema(places.tables_of(name) / "rppa.parquet")
        panel = [column for column in table.names if column != "patient_id"]
        study = study.with_changes(contract={"protein": {"panel": panel, "minimum_measured": 0.0}})
    places.build_pack()
    return load_consortium(folder, study, folder, places.tables_of(name))


@lru_cache(maxsize=1)
def _open_synthetic(places: Places) -> LoadedConsortium:
    """The consortium with default settings, written once."""
    folder = places.work / "synthetic-consortium"
    if not (folder / "study.toml").is_file():
        write_consortium(make_consortium(SyntheticSettings()), folder)
    return load_consortium(folder, Study.load(folder / "study.toml"), folder)
