"""What is spent: the subsampled Gaussian mechanism, with the rate and the steps that a study gives a site."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmfed_common.study import Training


@dataclass(frozen=True)
class Mechanism:
    """Some steps of one Gaussian mechanism over patients that are drawn independently of each other.

    Attributes
    ----------
    noise_multiplier
        Deviation of the noise over the largest length of one patient's part.
    sample_rate
        Probability with which each patient takes part in a step; 1: all do.
    steps
        How many such steps.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int


def sample_rate(training: Training, patients: int) -> float:
    """Probability with which each of a site's patients is in a step: ``batch / patients``, at most 1.

    ``batch = 0`` takes everybody in every step. How many patients a site trains on counts as public.
    """
    if training.batch == 0 or training.batch >= patients:
        return 1.0
    return training.batch / patients


def steps_of_epoch(training: Training, patients: int) -> int:
    """Steps in which each patient is drawn once on average, rounded up; 1 for a site without patients."""
    if training.batch == 0:
        return 1
    return max(1, math.ceil(patients / training.batch))


def steps_of_round(training: Training, patients: int) -> int:
    """Steps of one round under differential privacy: ``local_epochs`` times those of an epoch."""
    return training.local_epochs * steps_of_epoch(training, patients)
