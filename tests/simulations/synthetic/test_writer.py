"""What ``mmfed-simulate cohort`` writes meets its own study."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from lifelines.datasets import load_lung

from mmfed_common.errors import StudyError
from mmfed_common.knowledge import KnowledgePack
from mmfed_common.study import Study
from mmfed_common.topology import REGULATES
from mmfed_simulations.consortium import check_consortium, load_consortium
from mmfed_simulations.sources import write_lung
from mmfed_simulations.sources.lung import lung_table
from mmfed_simulations.synthetic import SyntheticSettings, make_consortium, write_consortium

SMALL = SyntheticSettings(sites=4, patients=120, genes=60, pathways=8, smallest_site=15)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small consortium on disk."""
    folder = tmp_path_factory.mktemp("written") / "consortium"
    write_consortium(make_consortium(SMALL), folder)
    return folder


def test_every_site_meets_the_study_without_a_fault(written: Path) -> None:
    study = Study.load(written / "study.toml")
    found = check_consortium(written, study, written)
    assert list(found) == ["site-01", "site-02", "site-03", "site-04"]
    assert {name: [f.what for f in faults if f.severity == "error"] for name, faults in found.items()} == {
        name: [] for name in found
    }


def test_tensors_carry_the_tables(written: Path) -> None:
    study = Study.load(written / "study.toml")
    loaded = load_consortium(written, study, written)
    assert len(loaded.cohort.patients) == 120
    assert set(loaded.cohort.patients.nodes) == set(study.contract.node_types)
    truth = pd.read_parquet(written / "truth.parquet").set_index("patient_id")
    ids = list(loaded.cohort.patients.patient_ids)
    outcomes = loaded.cohort.patients.outcomes
    assert outcomes.time_days.tolist() == truth.loc[ids, "os_days"].tolist()
    assert outcomes.event.tolist() == truth.loc[ids, "os_event"].tolist()
    assert list(loaded.cohort.sites) == truth.loc[ids, "site"].tolist()
    for name, node in loaded.cohort.patients.nodes.items():
        assert node.has_modality().any(), name


def test_the_pack_is_the_one_that_the_study_names(written: Path) -> None:
    study = Study.load(written / "study.toml")
    assert study.contract.knowledge is not None
    pack = KnowledgePack.load_for(study.contract.knowledge, written)
    assert len(pack.genes) == 60
    assert pack.symbols.resolve("OLDGENE0007") == "GENE0007"
    truth = json.loads((written / "truth.json").read_text())
    assert len(truth["genes"]) == 20
    for name, core in truth["pathways"].items():
        assert set(core) <= set(pack.pathways[name])
    regulated = {(pair.source, pair.target) for pair in pack.relations[REGULATES]}
    core = next(iter(truth["pathways"].values()))
    assert {(core[0], gene) for gene in core[1:]} <= regulated


def test_a_cohort_is_not_written_over_another(written: Path, tmp_path: Path) -> None:
    for write in (lambda: write_consortium(make_consortium(SMALL), written), lambda: write_lung(written)):
        with pytest.raises(StudyError) as caught:
            write()
        assert caught.value.code == "MMF-503"
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StudyError) as caught:
        write_lung(blocked / "below")
    assert caught.value.code == "MMF-508"


def test_lung_is_the_published_table(tmp_path: Path) -> None:
    """228 patients, 165 deaths, median follow-up 255.5 days: R's survival::lung."""
    table = lung_table()
    raw = load_lung()
    assert (len(table), int(table["os_event"].sum()), table["os_days"].median()) == (228, 165, 255.5)
    assert (table["sex"] == "male").sum() == 138
    assert table["institution"].nunique() == 19
    assert (table["institution"] == "unknown").sum() == 1
    assert table.loc[3, "institution"] == f"institution-{int(raw.loc[3, 'inst']):02d}"
    write_lung(tmp_path / "lung")
    study = Study.load(tmp_path / "lung" / "study.toml")
    assert study.contract.survival is not None
    assert study.contract.survival.bins[-1] >= table["os_days"].max()
    loaded = load_consortium(tmp_path / "lung", study, tmp_path / "lung")
    assert len(loaded.cohort.patients) == 228
    sites = loaded.sites()
    assert len(sites) == 19
    assert sum(len(site.test) for site in sites) == sum(int(site.held_out.sum()) for site in sites) > 40
