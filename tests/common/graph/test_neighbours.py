"""Spatial neighbours against a library."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from mmfed_common.graph import knn_neighbours
from mmfed_common.randomness import torch_generator


def test_a_row_of_tiles() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert knn_neighbours(x, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert knn_neighbours(x[:2], 3).tolist() == [[1, -1, -1], [0, -1, -1]]
    assert knn_neighbours(x[:1], 2).tolist() == [[-1, -1]]
    assert knn_neighbours(x[:0], 2).shape == (0, 2)


def test_a_tile_without_a_place_is_nobodys_neighbour() -> None:
    x = torch.tensor([[0.0, 0.0], [float("nan"), 0.0], [1.0, 0.0]])
    assert knn_neighbours(x, 2).tolist() == [[2, -1], [-1, -1], [0, -1]]


def test_tiles_at_one_place_are_neighbours_but_not_of_themselves() -> None:
    assert knn_neighbours(torch.zeros(3, 2), 2).tolist() == [[1, 2], [0, 2], [0, 1]]


@given(st.integers(7, 600), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_equal_to_scikit_learn(tiles: int, k: int, seed: int) -> None:
    x = torch.rand(tiles, 3, generator=torch_generator(seed), dtype=torch.float64)
    expected = NearestNeighbors(n_neighbors=k).fit(x.numpy()).kneighbors(return_distance=False)
    assert knn_neighbours(x, k).tolist() == expected.tolist()
