"""Rounds, stages, learning rates and trained parameters."""

from __future__ import annotations

import pytest

from mmfed_common.schedule import Place, trained_parameters
from mmfed_common.study import Privacy, Stage, Training

TRAINING = Training(
    stages=(
        Stage(level="clinical", rounds=2, learning_rate=0.1),
        Stage(level="additive", rounds=3, learning_rate=0.2, trains=("clinical", "additive")),
    ),
    local_epochs=2,
    schedule="cosine",
)


@pytest.mark.parametrize(
    ("number", "stage", "within", "last"), [(1, 0, 1, 2), (2, 0, 2, 2), (3, 1, 1, 5), (5, 1, 3, 5)]
)
def test_a_round_knows_its_place(number: int, stage: int, within: int, last: int) -> None:
    place = Place.of(TRAINING, number)
    assert (place.stage_index, place.round_in_stage, place.last_of_stage) == (stage, within, last)


def test_cosine_starts_at_the_stages_rate_in_every_stage_and_falls() -> None:
    rates = [Place.of(TRAINING, n).learning_rate(TRAINING, e) for n in (3, 4, 5) for e in (0, 1)]
    assert rates[0] == 0.2
    assert rates[3] == pytest.approx(0.1)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


def test_a_stage_trains_the_blocks_it_names() -> None:
    names = ["full.a", "clinical.b", "additive.c"]
    first, second = TRAINING.stages
    assert trained_parameters(names, lambda n: n.split(".")[0], first, Privacy(), ()) == ("clinical.b",)
    assert trained_parameters(names, lambda n: n.split(".")[0], second, Privacy(), ()) == (
        "additive.c",
        "clinical.b",
    )
