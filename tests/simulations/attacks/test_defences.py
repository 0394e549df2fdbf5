"""Defences: what each name stands for, and what is refused."""

from __future__ import annotations

import pytest
from tests.simulations.attacks.overfitted import STUDY

from mmfed_common.errors import ModelError
from mmfed_simulations.attacks.defences import (
    MASKS_NOTHING_RELEASED,
    Defence,
    parse_defences,
    refuse_meaningless,
)


def test_names_and_their_labels() -> None:
    assert [d.label for d in parse_defences(None)] == ["as released"]
    assert [d.label for d in parse_defences(["dp8", "dp0.5", "none", "int8", "none"])] == [
        "DP, ε = 8",
        "DP, ε = 0.5",
        "no defence",
        "int8 updates",
    ]


@pytest.mark.parametrize("name", ["", "dp", "dp0", "dp-1", "fp8", "DP8", "dp8x"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        Defence.parse(name)
    assert caught.value.code == "MMF-620"


def test_a_defence_without_bearing_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        refuse_meaningless([Defence("none"), Defence("secure")], MASKS_NOTHING_RELEASED)
    assert caught.value.code == "MMF-621"
    refuse_meaningless([Defence("none")], MASKS_NOTHING_RELEASED)


def test_differential_privacy_lets_nothing_private_in_unpaid() -> None:
    study = STUDY.with_changes(
        contract={"normalisation": "federated", "relations": {"source": "site"}},
        training={"validation_fraction": 0.2, "patience": 3},
    )
    private = Defence.parse("dp8").applied(study, 60)
    assert (private.privacy.mode, private.privacy.epsilon) == ("dp", 8.0)
    assert private.privacy.delta == 1e-5
    assert private.contract.normalisation == "reference"
    assert private.contract.relations.source == "none"
    assert private.training.patience is None
    assert Defence.of(private) == Defence.parse("dp8")


def test_delta_stays_below_one_in_the_patients_of_a_very_large_site() -> None:
    private = Defence.parse("dp8").applied(STUDY, 1_000_000)
    assert private.privacy.delta == pytest.approx(1_000_000**-1.1)


def test_no_defence_takes_every_defence_off() -> None:
    private = Defence.parse("dp8").applied(STUDY, 60)
    bare = Defence.parse("none").applied(private, 60)
    assert bare.privacy.mode == "none"
    assert Defence.of(bare) == Defence("none")
    assert Defence("released").applied(private, 60) is private


def test_masked_sums() -> None:
    masked = Defence.parse("secure").applied(STUDY.with_changes(aggregation={"minimum_sites": 3}), 60)
    assert masked.aggregation.secure
    assert Defence.of(masked) == Defence("secure")
