"""Which sums of features are no numbers' sums: what is left of masks, and what a site makes up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmfed_common.masking.wide import HALVES, add_wide, decode_wide, encode_wide
from mmfed_common.scaling import Moments
from mmfed_server.rounds.masked_scaling import impossible


def moments(count: float, total: float, square: float) -> Moments:
    return Moments(
        *({"clinical_feature": torch.tensor([[value]]).double()} for value in (count, total, square))
    )


def of_numbers(values: np.ndarray) -> tuple[float, float, float]:
    return float(values.size), float(values.sum()), float((values**2).sum())


@pytest.mark.parametrize("values", [[], [0.0], [3.5], [1e6, 1e6, 1e6], [-1e-5, 2e-5], list(range(1000))])
def test_sums_of_numbers_are_possible(values: list[float]) -> None:
    assert not impossible(moments(*of_numbers(np.array(values, float))))


@pytest.mark.parametrize(
    "sums",
    [
        (-1.0, 0.0, 1.0),
        (2.0**41, 0.0, 1.0),
        (3.0, 0.0, -1.0),
        (3.0, 4.0, 5.0),
        (float("nan"), 0.0, 1.0),
        (3.0, float("nan"), 1.0),
        (3.0, 0.0, float("nan")),
    ],
)
def test_others_are_not(sums: tuple[float, float, float]) -> None:
    assert impossible(moments(*sums)) == "clinical_feature"


def test_what_masks_leave_of_a_single_feature_is_never_taken_for_its_sums() -> None:
    """One in nine would be, if only the signs and Cauchy and Schwarz's inequality were looked at."""
    draw = np.random.default_rng(1)
    real = encode_wide(np.array(of_numbers(draw.normal(60.0, 10.0, 500))))
    for _ in range(5_000):
        left = draw.integers(-(2**63), 2**63, size=HALVES * 3, dtype=np.int64)
        add_wide(left, real)
        assert impossible(moments(*decode_wide(left)))
