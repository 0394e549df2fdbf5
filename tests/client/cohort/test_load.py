"""What is loaded is what the tables hold, whatever their format."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmfed_client.cohort import check_cohort
from mmfed_common.contract import Contract
from mmfed_common.graph import build_topology

FORMATS = [".csv", ".csv.gz", ".parquet", ".feather"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_tensors_equal_the_tables(small: Any, suffix: str) -> None:
    small.suffix = suffix
    small.frames["expression"] = small.frames["expression"].sample(frac=1, random_state=1)
    cohort = small.load()
    patients, clinical = cohort.patients, small.clinical
    assert patients.patient_ids == tuple(clinical["patient_id"])
    assert cohort.folds == tuple(clinical["fold"])
    assert cohort.sites == tuple(clinical["hospital"])
    by_patient = small.frames["expression"].set_index("patient_id").loc[clinical["patient_id"]]
    expected = np.log1p(by_patient[["KMT2A", "TP53", "EGFR", "MARCHF1"]].to_numpy(dtype=np.float32))
    np.testing.assert_allclose(patients.nodes["gene"].values[:, :, 0], expected, rtol=1e-6)
    proteins = small.frames["protein"][["AKT", "AKT_pS473"]].to_numpy(dtype=np.float32)
    np.testing.assert_allclose(patients.nodes["protein"].values[:, :, 0], proteins, rtol=1e-6)
    assert all(bool(n.present.all()) for name, n in patients.nodes.items() if name != "imaging_feature")
    assert patients.nodes["gene"].values.dtype == torch.float32
    np.testing.assert_array_equal(patients.outcomes.time_days, clinical["days"].astype(np.float32))
    np.testing.assert_array_equal(patients.outcomes.event, clinical["dead"].astype(np.float32))
    classes = {"none": 0, "partial": 1, "complete": 2}
    np.testing.assert_array_equal(patients.outcomes.response, clinical["response"].map(classes))
    labels = small.frames["toxicity"][["neutropenia", "nausea"]]
    np.testing.assert_array_equal(patients.outcomes.toxicity, labels)
    assert bool(patients.outcomes.toxicity_known.all())


def feature(cohort: Any, small: Any, name: str) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Values and presence of one clinical feature."""
    names = Contract.model_validate(small.contract).clinical_features()
    node = cohort.patients.nodes["clinical_feature"]
    return node.values[:, names.index(name), 0].numpy(), node.present[:, names.index(name), 0].numpy()


@pytest.mark.parametrize("suffix", FORMATS)
def test_clinical_columns_are_encoded_as_the_contract_says(small: Any, suffix: str) -> None:
    small.suffix = suffix
    small.set("clinical", "stage", [0, 1, 2], ["Stage X", None, " iv "])
    small.set("clinical", "sex", [0, 1], ["F", "MALE"])
    small.clinical["smoker"] = small.clinical["smoker"].map({0: 0.0, 1: 1.0}).where(small.clinical.index != 5)
    cohort = small.load()
    assert Contract.model_validate(small.contract).clinical_features() == (
        "age", "sex", "site_of_origin=right", "site_of_origin=both", "smoker", "stage",
    )  # fmt: skip
    stage, known = feature(cohort, small, "stage")
    assert not known[0]
    assert not known[1]
    assert stage[2] == 3
    rank = {"I": 0, "II": 1, "III": 2, "IV": 3}
    np.testing.assert_array_equal(stage[3:], small.clinical["stage"][3:].map(rank))
    sex, _ = feature(cohort, small, "sex")
    assert sex[0] == 0
    assert sex[1] == 1
    for value in ("right", "both"):
        encoded, known = feature(cohort, small, f"site_of_origin={value}")
        np.testing.assert_array_equal(encoded, small.clinical["site_of_origin"] == value)
        assert known.all()
    _, known = feature(cohort, small, "smoker")
    assert list(np.flatnonzero(~known)) == [5]


def test_a_category_written_as_a_number_is_one_category(small: Any) -> None:
    small.contract["clinical"]["stage"] = {"kind": "ordinal", "values": ["0", "1", "2"]}
    small.clinical["stage"] = (np.arange(60) % 3).astype(float)
    for suffix in (".csv", ".parquet"):
        small.suffix = suffix
        small.description["tables"] = {}
        values, known = feature(small.load(), small, "stage")
        np.testing.assert_array_equal(values, np.arange(60) % 3)
        assert known.all()


def test_number_with_words_for_missing_and_a_logarithm(small: Any) -> None:
    small.contract["demographics"]["age"] |= {"missing": ["-9", "Unknown"], "transform": "log1p"}
    small.set("clinical", "age", [0, 1], [-9, "unknown"])
    values, known = feature(small.load(), small, "age")
    assert list(np.flatnonzero(~known)) == [0, 1]
    np.testing.assert_allclose(values[2:], np.log1p(small.clinical["age"][2:].astype(float)), rtol=1e-6)
    assert values[0] == 0


def test_columns_may_have_other_names_without_renaming(small: Any) -> None:
    expected = small.load().patients.nodes
    small.clinical.rename(columns={"age": "ALTER", "stage": "UICC"}, inplace=True)
    small.frames["protein"].rename(columns={"AKT": "akt total"}, inplace=True)
    small.frames["toxicity"].rename(columns={"nausea": "Übelkeit"}, inplace=True)
    small.frames["expression"].rename(columns={"patient_id": "sample"}, inplace=True)
    small.description["demographics"]["columns"] = {"age": "ALTER", "sex": "sex"}
    own = {"stage": "UICC", "site_of_origin": "site_of_origin", "smoker": "smoker"}
    small.description["clinical"]["columns"] = own
    small.description["protein"]["columns"] = {"AKT": "akt total"}
    small.description["outcome"]["toxicity"]["columns"] = {"neutropenia": "neutropenia", "nausea": "Übelkeit"}
    small.description["tables"]["expression"] = {"file": "expression.csv", "id_column": "sample"}
    found = small.load()
    assert found.warnings == ()
    for name, node in expected.items():
        torch.testing.assert_close(found.patients.nodes[name].values, node.values)


def test_semicolons_and_decimal_commas(small: Any) -> None:
    expected = small.load().patients
    for name in ("clinical", "expression"):
        small.frames[name].to_csv(small.folder / f"{name}_eu.csv", sep=";", decimal=",", index=False)
        european = {"file": f"{name}_eu.csv", "delimiter": ";", "decimal": ","}
        small.description["tables"][name] = european
    found = small.load().patients
    torch.testing.assert_close(found.nodes["gene"].values, expected.nodes["gene"].values)
    torch.testing.assert_close(found.outcomes.time_days, expected.outcomes.time_days)


@pytest.mark.parametrize(
    ("unit", "days"), [("days", 1.0), ("weeks", 7.0), ("months", 365.25 / 12), ("years", 365.25)]
)
def test_times_are_converted_to_days(small: Any, unit: str, days: float) -> None:
    expected = small.clinical["days"].to_numpy()
    small.clinical["days"] = expected / days
    small.description["outcome"]["survival"]["unit"] = unit
    np.testing.assert_allclose(small.load().patients.outcomes.time_days, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("cells", "keys"),
    [
        ({0: 1, 1: 2}, {"event_value": 2}),
        ({0: "Alive", 1: "Dead"}, {"event_value": "dead"}),
        ({0: False, 1: True}, {}),
        ({0: "alive", 1: "dead"}, {"event_value": ["dead"], "censored_value": ["alive"]}),
    ],
)
def test_events_may_be_coded_in_other_ways(
    small: Any, cells: dict[int, object], keys: dict[str, Any]
) -> None:
    event = small.clinical["dead"].to_numpy()
    small.clinical["dead"] = [cells[int(e)] for e in event]
    small.description["outcome"]["survival"] |= keys
    for suffix in (".csv", ".parquet"):
        small.suffix = suffix
        small.description["tables"] = {}
        np.testing.assert_array_equal(small.load().patients.outcomes.event, event)


def test_several_other_event_values_are_not_guessed(small: Any) -> None:
    small.clinical["dead"] = small.clinical["dead"].map({0: "alive", 1: "dead"})
    small.set("clinical", "dead", 0, "lost")
    small.description["outcome"]["survival"]["event_value"] = "dead"
    assert {f.code for f in small.check()} == {"MMF-220"}
    small.description["outcome"]["survival"]["censored_value"] = ["alive", "lost"]
    assert small.load().patients.outcomes.event[0] == 0


def test_patients_without_any_outcome_are_left_out(small: Any) -> None:
    small.set("clinical", "days", [3, 4], None)
    small.set("clinical", "response", [3], None)
    small.frames["toxicity"].drop(index=3, inplace=True)
    cohort = small.load()
    assert "P003" not in cohort.patients.patient_ids
    kept = cohort.patients.patient_ids.index("P004")
    assert not cohort.patients.outcomes.survival_known[kept]
    assert cohort.patients.outcomes.response[kept] >= 0
    assert len(cohort.patients) == len(cohort.sites) == 59
    left_out = [f for f in cohort.warnings if f.code == "MMF-221" and f.column == ""]
    assert [f.count for f in left_out] == [1]


def test_a_follow_up_of_zero_is_kept(small: Any) -> None:
    small.set("clinical", "days", [5], 0)
    outcomes = small.load().patients.outcomes
    assert outcomes.time_days[5] == 0
    assert outcomes.survival_known[5]


def test_old_gene_names_go_to_their_gene(small: Any) -> None:
    expected = small.load().patients.nodes["gene"].values
    small.frames["expression"].rename(columns={"KMT2A": "MLL", "TP53": "P53"}, inplace=True)
    torch.testing.assert_close(small.load().patients.nodes["gene"].values, expected)


def test_the_approved_name_wins_over_an_old_one(small: Any) -> None:
    expected = small.load().patients.nodes["gene"].values
    small.frames["expression"].insert(1, "MLL", 500.0)
    torch.testing.assert_close(small.load().patients.nodes["gene"].values, expected)


def test_missing_cells_and_missing_patients_are_absent(small: Any) -> None:
    small.frames["protein"].loc[2, "AKT"] = np.nan
    small.frames["protein"] = small.frames["protein"].iloc[:-10]
    small.frames["expression"].drop(columns="TP53", inplace=True)
    nodes = small.load().patients.nodes
    absent = ~nodes["protein"].present[:, :, 0]
    assert absent[2, 0]
    assert bool(absent[-10:].all())
    assert int(absent.sum()) == 21
    assert not bool(nodes["gene"].present[:, 1].any())
    assert all(bool((node.values[~node.present] == 0).all()) for node in nodes.values())


def test_a_modality_that_the_site_lacks_is_absent(small: Any) -> None:
    del small.description["protein"], small.description["imaging"]
    cohort = small.load()
    assert cohort.warnings == ()
    assert not bool(cohort.patients.nodes["protein"].present.any())
    assert cohort.patients.nodes["imaging_feature"].values.shape == (60, 3, 2)


def test_clipping_and_signed_logarithm(small: Any) -> None:
    small.contract["protein"]["layer"] = {"transform": "signed_log1p", "clip": 1.0}
    raw = small.frames["protein"][["AKT", "AKT_pS473"]].to_numpy() * 4
    small.frames["protein"][["AKT", "AKT_pS473"]] = raw
    expected = np.clip(np.sign(raw) * np.log1p(np.abs(raw)), -1, 1)
    found = small.load().patients.nodes["protein"].values[:, :, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_split_by_site(small: Any) -> None:
    cohort = small.load()
    parts = cohort.by_site()
    assert list(parts) == ["north", "south"]
    north = parts["north"]
    wanted = tuple(small.clinical.loc[small.clinical["hospital"] == "north", "patient_id"])
    assert north.patients.patient_ids == wanted
    assert north.folds == tuple(small.clinical.loc[small.clinical["hospital"] == "north", "fold"])
    assert sum(len(part.patients) for part in parts.values()) == 60


def test_without_site_and_fold_columns(small: Any) -> None:
    small.description["cohort"] = {"id_column": "patient_id"}
    cohort = small.load()
    assert set(cohort.sites) == {"site"}
    assert cohort.folds is None
    assert cohort.by_site() == {"site": cohort}


def test_identifiers_stay_text(small: Any) -> None:
    for frame in small.frames.values():
        frame["patient_id"] = frame["patient_id"].str.replace("P", "0")
    assert small.load().patients.patient_ids[:2] == ("0000", "0001")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_text_in_a_late_block_is_found_at_its_row(
    small: Any, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmfed_client.cohort.tables.CSV_BLOCK_BYTES", 600)
    small.suffix = suffix
    small.frames["expression"] = small.frames["expression"].astype({"EGFR": str})
    small.frames["expression"].loc[[41, 57], "EGFR"] = "high"
    small.set("protein", "AKT", 50, "inf")
    if suffix == ".parquet":
        small.frames["protein"]["AKT"] = small.frames["protein"]["AKT"].map(str)
    found = {(f.code, f.column): (f.row, f.count) for f in small.check()}
    assert found == {("MMF-205", "EGFR"): (41, 2), ("MMF-206", "AKT"): (50, 1)}


def test_only_wanted_tables_are_opened(small: Any) -> None:
    del small.contract["protein"]
    small.frames.pop("protein")
    small.description["tables"]["protein"] = "not there.parquet"
    contract = Contract.model_validate(small.contract)
    assert check_cohort(small.write(), contract, build_topology(contract, None), None) == []


def test_dictionary_encoded_parquet(small: Any) -> None:
    small.suffix = ".parquet"
    expected = small.load().patients.nodes["clinical_feature"].values
    small.clinical["stage"] = pd.Categorical(small.clinical["stage"])
    torch.testing.assert_close(small.load().patients.nodes["clinical_feature"].values, expected)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_csv_parts_are_whole_rows(
    small: Any, size: int, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line breaks and delimiters within quotes belong to the cell, wherever a part ends."""
    small.suffix = suffix
    small.clinical["remark"] = 'first "line"\nsecond, line\r\nthird'
    expected = small.load().patients
    monkeypatch.setattr("mmfed_client.cohort.tables.CSV_BLOCK_BYTES", size)
    found = small.load().patients
    assert found.patient_ids == expected.patient_ids
    for name, node in expected.nodes.items():
        torch.testing.assert_close(found.nodes[name].values, node.values)


def test_a_csv_file_that_is_none_is_a_fault(small: Any) -> None:
    description = small.write()
    contract = Contract.model_validate(small.contract)
    topology = build_topology(contract, None)
    (small.folder / "expression.csv").write_bytes(b"patient_id,TP53\n\xff\xfe,1\nP000\n")
    (small.folder / "protein.csv").write_bytes(b"")
    (small.folder / "toxicity.csv").write_bytes("patient_id".encode("utf-16"))
    (small.folder / "imaging.csv").write_bytes(b"\xef\xbb\xbf" + (small.folder / "imaging.csv").read_bytes())
    faults = check_cohort(description, contract, topology, None)
    assert {(f.code, f.table) for f in faults} == {
        ("MMF-201", "expression"),
        ("MMF-203", "protein"),
        ("MMF-201", "toxicity"),
    }


def test_a_damaged_file_is_a_fault(small: Any) -> None:
    small.suffix = ".csv.gz"
    description = small.write()
    contract = Contract.model_validate(small.contract)
    whole = (small.folder / "protein.csv.gz").read_bytes()
    (small.folder / "protein.csv.gz").write_bytes(whole[:-40])
    parquet = small.folder / "expression.parquet"
    small.frames["expression"].to_parquet(parquet)
    content = bytearray(parquet.read_bytes())
    content[20:600] = bytes(580)
    parquet.write_bytes(content)
    tables = description.tables | {
        "expression": description.tables["expression"].model_copy(update={"file": parquet})
    }
    description = description.model_copy(update={"tables": tables})
    faults = check_cohort(description, contract, build_topology(contract, None), None)
    assert {(f.code, f.table) for f in faults} == {("MMF-201", "protein"), ("MMF-201", "expression")}
