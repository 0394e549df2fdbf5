"""Reading the cohorts of a simulation: one table set with a site column, or one folder a site."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.one_table import WITHOUT_FOLDS as COHORT
from tests.one_table import one_table_study

from mmfed_client.opening import open_site
from mmfed_common.errors import CohortError, DataError, StudyError
from mmfed_common.study import Study
from mmfed_simulations.consortium import check_consortium, load_consortium

STUDY = one_table_study()


def table(patients: int = 60) -> pd.DataFrame:
    """Patients of three sites."""
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": [f"p{i:02d}" for i in range(patients)],
            "site": [("a", "b", "c")[i % 3] for i in range(patients)],
            "age": draw.integers(30, 90, size=patients),
            "days": draw.integers(10, 2500, size=patients),
            "died": draw.integers(0, 2, size=patients),
        }
    )


def as_one(folder: Path, patients: pd.DataFrame) -> Path:
    """One table set with a site column."""
    folder.mkdir()
    (folder / "cohort.toml").write_text(COHORT)
    patients.to_csv(folder / "t.csv", index=False)
    return folder


def as_folders(folder: Path, patients: pd.DataFrame) -> Path:
    """One sub-folder a site."""
    for site, part in patients.groupby("site"):
        (folder / str(site)).mkdir(parents=True)
        (folder / str(site) / "cohort.toml").write_text(COHORT.replace('site_column = "site"\n', ""))
        part.to_csv(folder / str(site) / "t.csv", index=False)
    return folder


def test_both_forms_give_the_same_sites(tmp_path: Path) -> None:
    one = load_consortium(as_one(tmp_path / "one", table()), STUDY, tmp_path).sites()
    many = load_consortium(as_folders(tmp_path / "many", table()), STUDY, tmp_path).sites()
    assert [site.name for site in one] == [site.name for site in many] == ["a", "b", "c"]
    for left, right in zip(one, many, strict=True):
        assert left.patients.patient_ids == right.patients.patient_ids
        assert left.held_out.tolist() == right.held_out.tolist()
        np.testing.assert_array_equal(left.patients.outcomes.time_days, right.patients.outcomes.time_days)
        expected = STUDY.held_out_rule.held_out(left.patients.patient_ids, left.name)
        assert left.held_out.tolist() == expected.tolist()
        assert not set(left.training.patient_ids) & set(left.test.patient_ids)


def test_tables_may_lie_elsewhere(tmp_path: Path) -> None:
    folder = as_one(tmp_path / "one", table())
    elsewhere = tmp_path / "data"
    elsewhere.mkdir()
    (folder / "t.csv").rename(elsewhere / "t.csv")
    with pytest.raises(CohortError):
        load_consortium(folder, STUDY, tmp_path)
    assert len(load_consortium(folder, STUDY, tmp_path, elsewhere).cohort.patients) == 60


def test_a_patient_at_two_sites_is_refused_by_name(tmp_path: Path) -> None:
    folder = as_folders(tmp_path / "many", table())
    second = pd.read_csv(folder / "b" / "t.csv")
    second.loc[0, "id"] = "p00"
    second.to_csv(folder / "b" / "t.csv", index=False)
    with pytest.raises(StudyError, match="p00 is at a and at b") as caught:
        load_consortium(folder, STUDY, tmp_path)
    assert caught.value.code == "MMF-506"


def test_faults_of_all_sites_are_collected(tmp_path: Path) -> None:
    folder = as_folders(tmp_path / "many", table())
    for site in ("a", "c"):
        wrong = pd.read_csv(folder / site / "t.csv")
        wrong.loc[2, "age"] = 999
        wrong.to_csv(folder / site / "t.csv", index=False)
    with pytest.raises(CohortError) as caught:
        load_consortium(folder, STUDY, tmp_path)
    errors = [fault for fault in caught.value.faults if fault.severity == "error"]
    assert [(fault.code, fault.table, fault.row) for fault in errors] == [
        ("MMF-206", "a/t", 2),
        ("MMF-206", "c/t", 2),
    ]
    (folder / "b" / "cohort.toml").write_text("[cohort]\n")
    found = check_consortium(folder, STUDY, tmp_path)
    assert {site: [f.code for f in faults if f.severity == "error"] for site, faults in found.items()} == {
        "a": ["MMF-206"],
        "b": ["MMF-202"],
        "c": ["MMF-206"],
    }


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_a_folder_without_a_cohort_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        load_consortium(tmp_path / name, STUDY, tmp_path)
    assert caught.value.code == "MMF-201"
    assert caught.value.where == str(tmp_path / name)


def fold_study() -> Study:
    """The study, which holds out the first of three folds."""
    return STUDY.with_changes(evaluation={"rule": "fold", "folds": 3, "fold": 0})


def test_a_site_without_folds_is_refused_as_it_refuses_itself(tmp_path: Path) -> None:
    """Simulation and site follow one rule: nobody falls back to folds by hash, and the site is named."""
    with_folds = table().assign(fold=[i % 3 for i in range(60)])
    folder = as_folders(tmp_path / "some", with_folds)
    for site in ("a", "c"):
        path = folder / site / "cohort.toml"
        path.write_text(
            path.read_text().replace('id_column = "id"', 'id_column = "id"\nfold_column = "fold"')
        )
    with pytest.raises(StudyError) as caught:
        load_consortium(folder, fold_study(), folder)
    assert (caught.value.code, caught.value.where) == ("MMF-507", "b")
    with pytest.raises(StudyError) as caught:
        open_site(fold_study(), "b", folder / "b", None)
    assert (caught.value.code, caught.value.where) == ("MMF-507", "b")
    assert open_site(fold_study(), "a", folder / "a", None).held_out.any()
    assert len(load_consortium(folder, STUDY, folder).sites()) == 3


def test_a_consortium_without_any_folds_is_refused_too(tmp_path: Path) -> None:
    folder = as_folders(tmp_path / "none", table())
    with pytest.raises(StudyError) as caught:
        load_consortium(folder, fold_study(), folder).sites()
    assert caught.value.code == "MMF-507"
