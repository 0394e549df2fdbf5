"""Fixed-point numbers in the ring of 64-bit integers, so that masked sums are exact.

A change of a weight is clipped to ±``largest``, multiplied by the site's number of patients and rounded to
the nearest multiple of ``largest · 2⁻²⁹``. With at most 10⁴ sites of at most 10⁶ patients no sum overflows.
The sum over k sites is off by at most ``k/2`` steps; the mean over their N patients therefore by at most
``k/(2N) · largest · 2⁻²⁹``, which for 5 patients a site is below the spacing of 32-bit floats of size 0.01.

Rounding is to the nearest: it depends on the site's own update alone. Under differential privacy it comes
after the noise, so that it is post-processing and costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmfed_common.masking.stream import Vector

BITS = 29
MOST_SITES = 10_000
MOST_PATIENTS = 1_000_000
"""Of one site; beyond that sums could overflow."""
LARGEST_LOSS = 512.0
"""A mean loss is clipped to ± this; twenty times that of a model that is always wrong."""


@dataclass(frozen=True)
class FixedPoint:
    """Numbers within ±``largest``, each multiplied by a site's patients."""

    largest: float

    @property
    def step(self) -> float:
        """The spacing, for one patient."""
        return self.largest * 2.0**-BITS

    def encode(self, values: NDArray[np.floating], patients: int) -> Vector:
        """Clip, multiply by the number of patients, round; the shape stays.

        Raises
        ------
        ValueError
            When ``patients`` is not within 0 … 10⁶.
        """
        if not 0 <= patients <= MOST_PATIENTS:
            raise ValueError(f"more than {MOST_PATIENTS} patients cannot be summed without overflow")
        scaled: NDArray[np.float64] = np.divide(values, self.largest, dtype=np.float64)
        np.clip(scaled, -1.0, 1.0, out=scaled)
        scaled *= patients * 2.0**BITS
        return np.rint(scaled, out=scaled).astype(np.int64)

    def decode(self, total: Vector) -> NDArray[np.float64]:
        """The sum of values times patients."""
        return total.astype(np.float64) * self.step

    def clipped(self, values: NDArray[np.floating]) -> int:
        """How many numbers are beyond ±``largest``."""
        if values.size == 0 or (values.max() <= self.largest and values.min() >= -self.largest):
            return 0
        return int(np.count_nonzero(np.abs(values) > self.largest))

    def is_possible(self, total: Vector, patients: int, sites: int) -> bool:
        """Whether every number can be a sum over so many patients at so many sites."""
        most = patients * 2**BITS + sites
        return bool(total.size == 0 or (int(total.max()) <= most and int(total.min()) >= -most))
