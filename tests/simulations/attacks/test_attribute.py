"""Attribute inference: what the model adds, and that it adds nothing when it knows nothing."""

from __future__ import annotations

import numpy as np
import pytest

from mmfed_common.bundle import Bundle
from mmfed_common.errors import ModelError
from mmfed_simulations.attacks.attribute import attack_attribute, encodings, sensitive_columns
from mmfed_simulations.attacks.defences import parse_defences
from mmfed_simulations.attacks.shadows import Patients

RELEASED = parse_defences(None)


def test_columns_and_what_their_values_look_like(bundle: Bundle) -> None:
    contract = bundle.study.contract
    columns = sensitive_columns(contract, None)
    assert set(columns) == {"sex", "stage", "site_of_tumour"}
    features = contract.clinical_features()
    places, codes = encodings(contract, "site_of_tumour", columns["site_of_tumour"])
    assert [features[p] for p in places] == ["site_of_tumour=b", "site_of_tumour=c"]
    assert codes.tolist() == [[0, 0], [1, 0], [0, 1]]
    assert encodings(contract, "stage", columns["stage"])[1].tolist() == [[0], [1], [2]]
    assert encodings(contract, "sex", columns["sex"])[1].tolist() == [[0], [1]]


@pytest.mark.parametrize("name", ["age", "height"])
def test_a_column_that_cannot_be_guessed_is_refused(bundle: Bundle, name: str) -> None:
    with pytest.raises(ModelError) as caught:
        sensitive_columns(bundle.study.contract, [name])
    assert caught.value.code == "MMF-624"


def test_an_overfitted_model_betrays_its_members_more_than_strangers(
    everybody: Patients, bundle: Bundle
) -> None:
    rows = attack_attribute(bundle, everybody, RELEASED)
    assert {row.column for row in rows} == {"sex", "stage", "site_of_tumour"}
    for row in rows:
        assert row.members.patients + row.strangers.patients == 150
    # Outcomes have nothing to do with any column, so only memory can help, and only with members.
    assert np.mean([row.members.advantage.estimate for row in rows]) > 0.03
    assert np.mean([row.leak.estimate for row in rows]) > 0.03
    assert max(abs(row.strangers.advantage.estimate) for row in rows) < 0.12


def test_a_model_that_ignores_the_column_adds_nothing(everybody: Patients, bundle: Bundle) -> None:
    position = list(bundle.study.contract.clinical_features()).index("sex")
    state = {name: value.clone() for name, value in bundle.state.items()}
    for name, value in state.items():
        if name.startswith("clinical.linear."):
            value[:, position] = 0.0
    blind = Bundle(bundle.study, state, bundle.scaling, bundle.metrics, bundle.index)
    (row,) = attack_attribute(blind, everybody, RELEASED, ["sex"])
    assert row.members.advantage.estimate == pytest.approx(0.0, abs=1e-9)
    assert row.strangers.advantage.high == pytest.approx(0.0, abs=1e-9)


def test_too_few_patients_give_no_figure(everybody: Patients, bundle: Bundle) -> None:
    study = bundle.study.with_changes(evaluation={"fraction": 0.05})
    few = Bundle(study, bundle.state, bundle.scaling, bundle.metrics, bundle.index)
    with pytest.raises(ModelError) as caught:
        attack_attribute(few, everybody, RELEASED)
    assert caught.value.code == "MMF-622"
