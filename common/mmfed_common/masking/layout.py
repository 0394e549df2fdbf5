"""Where in the masked vector each number lies; both sides derive it from the study and the model alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mmfed_common.arrays import Shapes
from mmfed_common.masking.fields import MASKED
from mmfed_common.masking.fixed_point import LARGEST_LOSS, MOST_PATIENTS, FixedPoint
from mmfed_common.masking.shared_noise import RANGE, shares_noise
from mmfed_common.masking.stream import Vector

if TYPE_CHECKING:
    from mmfed_common.schedule import Place
    from mmfed_common.study import Study

HEAD = 2
"""Patients, and their summed loss."""
LOSS = FixedPoint(LARGEST_LOSS)


@dataclass(frozen=True)
class Layout:
    """The vector of a masked update.

    Attributes
    ----------
    shapes
        Of the weights that the stage trains.
    changes
        How their changes are written.
    """

    shapes: Shapes
    changes: FixedPoint

    @staticmethod
    def of(shapes: Shapes, study: Study, place: Place) -> Layout:
        """The vector of a study's round.

        Where sites share noise, a change is the learning rate times a sum of clipped gradients, so the steps
        follow from these and not from ``secure_largest_change``.
        """
        largest = study.aggregation.secure_largest_change
        if shares_noise(study):
            largest = RANGE * study.privacy.clipping * place.learning_rate(study.training, 0)
        return Layout(shapes, FixedPoint(largest))

    @property
    def size(self) -> int:
        """How many numbers."""
        return HEAD + sum(math.prod(shape) for shape, _ in self.shapes.values())

    @property
    def arrays(self) -> Shapes:
        """The one array that leaves a site."""
        return {MASKED: ((self.size,), torch.int64)}

    def empty(self) -> Vector:
        """A vector of zeros."""
        return np.zeros(self.size, np.int64)

    def write_head(self, vector: Vector, patients: int, loss: float) -> None:
        """Write how many patients trained, and their mean loss."""
        vector[0] = patients
        vector[1:HEAD] = LOSS.encode(np.array([loss]), patients)

    def parts(self, vector: Vector) -> Iterator[tuple[str, Vector]]:
        """Give the part of each weight, sorted by name; not a copy."""
        start = HEAD
        for name in sorted(self.shapes):
            size = math.prod(self.shapes[name][0])
            yield name, vector[start : start + size]
            start += size

    def patients(self, total: Vector) -> int:
        """Patients of all sites of a sum."""
        return int(total[0])

    def mean_loss(self, total: Vector) -> float:
        """Their mean loss."""
        return float(LOSS.decode(total[1:HEAD])[0]) / max(1, self.patients(total))

    def is_possible(self, total: Vector, least_patients: int, sites: int) -> bool:
        """Whether a sum is one that so many sites can have, with at least so many patients together."""
        patients = self.patients(total)
        if not max(1, least_patients) <= patients <= sites * MOST_PATIENTS:
            return False
        return self.changes.is_possible(total[1:], patients, sites)
