"""A site that opens its own folder holds, bit for bit, what a simulation gives it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.one_table import COHORT, one_table_study

from mmfed_client.opening import open_site
from mmfed_common.errors import MachineError, ModelError
from mmfed_common.study import Study
from mmfed_simulations.consortium import load_consortium
from mmfed_simulations.site_files import serialise_site, serialise_topology
from mmfed_simulations.synthetic import SyntheticSettings, make_consortium, write_consortium

SMALL = SyntheticSettings(sites=3, patients=90, genes=40, pathways=6, smallest_site=20)
STUDY = one_table_study(evaluation={"rule": "fold", "folds": 3, "fold": 1})


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sites with every modality, gaps, tiles, and relations of their own."""
    folder = tmp_path_factory.mktemp("opening") / "consortium"
    write_consortium(make_consortium(SMALL), folder)
    return folder


def test_a_folder_of_a_consortium_opens_as_the_simulation_opens_it(consortium: Path) -> None:
    study = Study.load(consortium / "study.toml")
    assert study.contract.knowledge is not None
    assert study.contract.relations.source == "site"
    pack = consortium / study.contract.knowledge.file
    for expected in load_consortium(consortium, study, consortium).sites():
        opened = open_site(study, expected.name, consortium / expected.name / "cohort.toml", pack)
        assert serialise_site(opened) == serialise_site(expected)
        assert serialise_topology(opened.topology) == serialise_topology(expected.topology)


def one_table(folder: Path) -> Path:
    """One table set of three sites."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": [f"p{i:02d}" for i in range(45)],
            "site": [("a", "b", "c")[i % 3] for i in range(45)],
            "fold": [i // 15 for i in range(45)],
            "age": draw.integers(30, 90, size=45),
            "days": draw.integers(10, 2500, size=45),
            "died": draw.integers(0, 2, size=45),
        }
    )
    (folder / "cohort.toml").write_text(COHORT)
    frame.to_csv(folder / "t.csv", index=False)
    return folder


def test_a_site_column_leaves_a_site_only_its_own_rows(tmp_path: Path) -> None:
    folder = one_table(tmp_path)
    for expected in load_consortium(folder, STUDY, folder).sites():
        opened = open_site(STUDY, expected.name, folder, None)
        assert serialise_site(opened) == serialise_site(expected)
        assert 0 < opened.held_out.sum() < len(opened.held_out)
    with pytest.raises(MachineError) as caught:
        open_site(STUDY, "elsewhere", folder, None)
    assert caught.value.code == "MMF-119"


def test_a_site_without_the_study_s_pack_does_not_open(consortium: Path, tmp_path: Path) -> None:
    study = Study.load(consortium / "study.toml")
    cohort = consortium / "site-01"
    with pytest.raises(ModelError) as caught:
        open_site(study, "site-01", cohort, None)
    assert caught.value.code == "MMF-602"
    other = SyntheticSettings(**{**SMALL.model_dump(), "seed": 9})
    write_consortium(make_consortium(other), tmp_path / "other")
    assert study.contract.knowledge is not None
    with pytest.raises(ModelError) as caught:
        open_site(study, "site-01", cohort, tmp_path / "other" / study.contract.knowledge.file)
    assert caught.value.code == "MMF-602"
