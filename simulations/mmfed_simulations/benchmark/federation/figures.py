"""What is measured of a federation of processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mmfed_simulations.benchmark.federation.byte_counter import ByteCounter
from mmfed_simulations.processes.programs import MEGABYTE


@dataclass(frozen=True)
class Figures:
    """One platform's figures.

    Attributes
    ----------
    seconds_per_round
        Median over the rounds after the first; mmfed's have one training step on 20 patients in them.
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

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return asdict(self)


def figures_of(seconds: Sequence[float], peak_bytes: int, counter: ByteCounter, sites: int) -> Figures:
    """Put the figures together.

    Parameters
    ----------
    seconds
        Of each round, the first one included.
    """
    first, middle, third = np.quantile(np.asarray(seconds[1:]), [0.25, 0.5, 0.75]).tolist()
    share = MEGABYTE * len(seconds) * sites
    return Figures(middle, (first, third), peak_bytes / MEGABYTE, counter.up / share, counter.down / share)
