"""What is measured of a federation of processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmfed_simulations.benchmark.federation.byte_counter import ByteCounter
from mmfed_simulations.processes.programs import MEGABYTE


@dataclass(frozen=True)
class Figures:
    """One platform's figures.

    Attributes
    ----------
    seconds_per_round
        Median over the rounds after the first, without training.
    quartiles
        First and third quartile of the same.
    server_peak_mb
        Peak resident memory of the server's processes together.
    up_mb, down_mb
        Bytes from and to all sites, per round and site, as counted on the socket (TLS included).
    """

    seconds_per_round: float
    quartiles: tuple[float, float]
    server_peak_mb: float
    up_mb: float
    down_mb: float


def figures_of(
    ends: Sequence[float], training: float, peak_bytes: int, counter: ByteCounter, rounds: int, sites: int
) -> Figures:
    """Put the figures together.

    Parameters
    ----------
    ends
        When each round ended, in seconds.
    training
        Seconds of each round that are training.
    """
    seconds = np.diff(np.asarray(ends)) - training
    first, middle, third = np.quantile(seconds, [0.25, 0.5, 0.75]).tolist()
    share = MEGABYTE * rounds * sites
    return Figures(middle, (first, third), peak_bytes / MEGABYTE, counter.up / share, counter.down / share)
