"""The study document: strict keys, one identity, stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmfed_common.errors import PrivacyError, StudyError
from mmfed_common.study import Study

MINIMAL: dict[str, Any] = {
    "study": {"name": "toy", "seed": 7},
    "contract": {
        "demographics": {"age": {"kind": "number", "unit": "years"}},
        "survival": {"bins": [365, 730, 1826.25]},
    },
    "training": {
        "stages": [{"level": "clinical", "rounds": 3}, {"level": "full", "rounds": 2, "trains": ["full"]}]
    },
}
TOML = """
[study]
seed = 7
name = "toy"
[contract.demographics.age]
unit = "years"
kind = "number"
[contract.survival]
bins = [365, 730, 1826.25]
[training]
stages = [{ rounds = 3, level = "clinical" }, { level = "full", rounds = 2, trains = ["full"] }]
"""


def changed(section: str, **changes: Any) -> dict[str, Any]:
    return {**MINIMAL, section: {**MINIMAL.get(section, {}), **changes}}


def known(days: float, alive: float) -> dict[str, Any]:
    return {"horizons": [365.0], "reference_survival": {"days": days, "alive": alive}}


def test_hash_is_of_the_meaning_not_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(TOML)
    assert Study.load(file).hash == Study.from_content(MINIMAL).hash


def test_hash_survives_a_round_trip_through_its_canonical_form(tmp_path: Path) -> None:
    study = Study.from_content(MINIMAL)
    file = tmp_path / "study.json"
    file.write_bytes(study.canonical())
    assert Study.load(file) == study


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("study", {"seed": 8}),
        ("evaluation", {"fold": 1, "rule": "fold"}),
        ("aggregation", {"minimum_sites": 3}),
        ("training", {"batch": 8}),
        ("model", {"pathway_gain": 0.1}),
        ("model", {"wide_gain": 1.0}),
        ("contract", {"survival": {**MINIMAL["contract"]["survival"], **known(365.0, 0.9)}}),
    ],
)
def test_every_change_changes_the_hash(section: str, changes: dict[str, Any]) -> None:
    assert Study.from_content(changed(section, **changes)).hash != Study.from_content(MINIMAL).hash


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (changed("study", sead=1), "study.sead"),
        (changed("training", patience=3), "validation_fraction"),
        (changed("model", pathway_gain=0.0), "model.pathway_gain"),
        (changed("model", wide_gain=-1.0), "model.wide_gain"),
        (
            changed("training", stages=[{"level": "full", "rounds": 1, "sparsity": -0.1}]),
            "training.stages.0.sparsity",
        ),
        (changed("evaluation", fold=5, folds=5), "below"),
        (changed("contract", survival={"bins": [365, 300]}), "increase"),
        (changed("contract", survival={"bins": [365, 730], "horizons": [900.0]}), "horizons"),
        (changed("contract", demographics={}), "at least one feature"),
        (changed("contract", survival={"bins": [365, 730], **known(5.0, 0.85)}), "counts days"),
        (changed("contract", survival={"bins": [365, 730], **known(1.0, 1e-300)}), "counts days"),
        (changed("contract", survival={"bins": [365, 730], **known(365.0, 85.0)}), "alive"),
        (changed("contract", survival={"bins": [365, 730], **known(float("inf"), 0.5)}), "days"),
        (changed("contract", gene={"layers": {"expression": {}}}), "knowledge"),
        (changed("contract", gene={"panel": ["TP53"], "layers": {"sound": {}}}), "unknown layers"),
    ],
)
def test_a_fault_is_named(content: dict[str, Any], named: str) -> None:
    with pytest.raises(StudyError) as caught:
        Study.from_content(content)
    assert caught.value.code == "MMF-501"
    assert named in str(caught.value)


def test_all_faults_are_named_at_once() -> None:
    content = {**changed("study", seed=-1), "nonsense": {}}
    with pytest.raises(StudyError, match=r"2 fault"):
        Study.from_content(content)


DP = {"mode": "dp", "epsilon": 3.0, "delta": 1e-3}


@pytest.mark.parametrize(
    "amounts",
    [
        {"mode": "dp", "epsilon": 3.0},
        {"mode": "dp", "delta": 1e-3},
        {"epsilon": 3.0},
        {"delta": 1e-3},
        {"scaling_epsilon": 1.0},
        {**DP, "scaling_epsilon": 3.0},
        {**DP, "epsilon": 0.0},
        {**DP, "delta": 1.0},
    ],
)
def test_amounts_of_privacy_that_make_no_sense_are_faults(amounts: dict[str, Any]) -> None:
    with pytest.raises(StudyError) as caught:
        Study.from_content(changed("privacy", **amounts))
    assert caught.value.code == "MMF-501"


def private(contract: dict[str, Any], training: dict[str, Any] | None = None, **privacy: Any) -> Study:
    content = changed("contract", **contract)
    content["training"] = {**content["training"], **(training or {})}
    return Study.from_content({**content, "privacy": {**DP, **privacy}})


def test_a_private_study_may_scale_by_references_or_by_sums_that_it_pays_for() -> None:
    age = {"age": {"kind": "number", "minimum": 0, "maximum": 99}}
    bounded = {"normalisation": "federated", "demographics": age}
    assert private({"normalisation": "reference"}).privacy.mode == "dp"
    assert private(bounded, scaling_epsilon=0.5).privacy.scaling_epsilon == 0.5


def test_paying_for_sums_that_are_not_taken_is_a_fault() -> None:
    with pytest.raises(StudyError) as caught:
        private({"normalisation": "reference"}, scaling_epsilon=0.5)
    assert caught.value.code == "MMF-501"


@pytest.mark.parametrize(
    ("contract", "training", "privacy", "code"),
    [
        ({"normalisation": "reference", "relations": {"source": "site"}}, {}, {}, "MMF-304"),
        ({"normalisation": "site"}, {}, {}, "MMF-305"),
        ({"normalisation": "federated"}, {}, {}, "MMF-305"),
        ({"normalisation": "site"}, {}, {"scaling_epsilon": 0.5}, "MMF-305"),
        ({"normalisation": "federated"}, {}, {"scaling_epsilon": 0.5}, "MMF-361"),
        ({"normalisation": "reference"}, {"patience": 2, "validation_fraction": 0.2}, {}, "MMF-360"),
    ],
)
def test_a_private_study_cannot_take_more_from_patients_than_is_paid(
    contract: dict[str, Any], training: dict[str, Any], privacy: dict[str, Any], code: str
) -> None:
    with pytest.raises(PrivacyError) as caught:
        private(contract, training, **privacy)
    assert caught.value.code == code


def test_a_missing_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be read"):
        Study.load(tmp_path / "absent.toml")


def test_stage_of_every_round() -> None:
    training = Study.from_content(MINIMAL).training
    assert [training.stage_of(r)[0] for r in range(1, 6)] == [0, 0, 0, 1, 1]
    assert training.stages[0].trained_blocks == ("clinical",)
    assert training.rounds == 5
    for outside in (0, 6):
        with pytest.raises(ValueError, match="not within"):
            training.stage_of(outside)


def test_the_order_of_keys_in_the_file_does_not_order_the_features(tmp_path: Path) -> None:
    columns = {"zeta": {"kind": "number"}, "alpha": {"kind": "number"}}
    study = Study.from_content(changed("contract", clinical=columns))
    file = tmp_path / "study.json"
    file.write_bytes(study.canonical())
    assert Study.load(file).contract.clinical_features() == study.contract.clinical_features()
    assert study.contract.clinical_features() == ("age", "alpha", "zeta")
