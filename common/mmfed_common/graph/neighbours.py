"""Spatial neighbours of slide tiles or image slices."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256
"""Tiles whose distances are held at once: memory is BLOCK × tiles × dimensions."""


def knn_neighbours(coordinates: Tensor, k: int) -> Tensor:
    """Find the nearest tiles of each tile by Euclidean distance.

    Parameters
    ----------
    coordinates
        ``(tiles, dimensions)``; a tile whose coordinates are not all finite has no neighbours and is none.
    k
        Neighbours for each tile.

    Returns
    -------
    ``(tiles, k)`` int64, nearest first, ties by tile number, never the tile itself; padded with -1.
    """
    tiles = coordinates.shape[0]
    neighbours = torch.full((tiles, k), -1, dtype=torch.int64)
    placed = torch.nonzero(torch.isfinite(coordinates).all(dim=1)).flatten()
    wanted = min(k, placed.numel() - 1)
    if wanted < 1:
        return neighbours
    points = coordinates[placed].double()
    for start in range(0, placed.numel(), BLOCK):
        rows = torch.arange(start, min(start + BLOCK, placed.numel()))
        squared = (points[rows, None, :] - points[None, :, :]).square().sum(dim=2)
        squared[torch.arange(rows.numel()), rows] = torch.inf
        order = torch.sort(squared, dim=1, stable=True).indices[:, :wanted]
        neighbours[placed[rows], :wanted] = placed[order]
    return neighbours
