"""Tiles, slices and their neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from mmfed_client.cohort.imaging import tile_slots
from mmfed_client.cohort.roster import NOBODY


def test_rows_fill_tiles_in_order(small: Any) -> None:
    node = small.load().patients.nodes["imaging_feature"]
    raw = small.frames["imaging"][["area", "texture"]].to_numpy(dtype=np.float32).reshape(60, 2, 2)
    np.testing.assert_allclose(node.values[:, :2], raw, rtol=1e-6)
    assert bool(node.present[:, :2].all())
    assert not bool(node.present[:, 2].any())
    expected = torch.tensor([[1, -1], [0, -1], [-1, -1]]).expand(60, 3, 2)
    assert node.neighbours is not None
    assert torch.equal(node.neighbours, expected)


def test_one_row_a_patient_without_coordinates(small: Any) -> None:
    small.frames["imaging"] = small.frames["imaging"].iloc[::2].drop(columns=["x", "y"])
    small.description["imaging"] = {"table": "imaging"}
    node = small.load().patients.nodes["imaging_feature"]
    assert bool(node.present[:, 0].all())
    assert not bool(node.present[:, 1:].any())
    assert node.neighbours is not None
    assert bool((node.neighbours == -1).all())


def test_scattered_rows_of_a_patient_stay_together(small: Any) -> None:
    expected = small.load().patients.nodes["imaging_feature"]
    tiles = small.frames["imaging"]
    small.frames["imaging"] = pd.concat([tiles.iloc[::2], tiles.iloc[1::2].iloc[::-1]])
    found = small.load().patients.nodes["imaging_feature"]
    torch.testing.assert_close(found.values, expected.values)


def test_too_many_tiles_are_subsampled_in_a_fixed_way() -> None:
    owners = np.repeat(np.array([0, 1, NOBODY, 2]), [10, 2, 4, 30])
    slots, crowded = tile_slots(owners, ("a", "b", "c"), 3)
    again, _ = tile_slots(np.concatenate([np.zeros(0, dtype=np.int64), owners]), ("a", "b", "c"), 3)
    np.testing.assert_array_equal(slots, again)
    assert crowded == 2
    for patient, most in ((0, 3), (1, 2), (2, 3)):
        taken = slots[(owners == patient) & (slots != NOBODY)]
        np.testing.assert_array_equal(taken, np.arange(most))
    assert (slots[owners == NOBODY] == NOBODY).all()
    # the choice depends on the patient's identifier and on nothing else
    other, _ = tile_slots(owners[:10], ("a",), 3)
    np.testing.assert_array_equal(other, slots[:10])
    renamed, _ = tile_slots(np.zeros(30, dtype=np.int64), ("z",), 3)
    assert not np.array_equal(renamed, slots[-30:])
