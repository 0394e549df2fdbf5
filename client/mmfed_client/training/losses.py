"""Losses over some of a site's patients, without training on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mmfed_client.training.local_site import LocalSite
from mmfed_common.model import MultimodalNetwork
from mmfed_common.patients import PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.study import Level
from mmfed_common.tasks.multitask import patient_losses

CHUNK = 256
"""Patients in one forward pass without gradients: bounds the memory of large sites."""


@dataclass(frozen=True)
class LossSum:
    """Sum of the loss over ``patients`` patients."""

    total: float
    patients: int


def chunks(patients: PatientTensors, index: npt.NDArray[np.int64]) -> Iterator[PatientTensors]:
    """Yield the patients of ``index``, some at a time, in order."""
    for start in range(0, len(index), CHUNK):
        yield patients.select(torch.from_numpy(index[start : start + CHUNK]).to(patients.device))


def loss_of(
    site: LocalSite, model: MultimodalNetwork, scaling: Scaling, level: Level, index: npt.NDArray[np.int64]
) -> LossSum:
    """Sum the loss over patients in evaluation mode.

    Parameters
    ----------
    index
        ``(n,)`` indices of patients of the site.
    """
    model.eval()
    total = 0.0
    with torch.no_grad():
        for patients in chunks(site.patients, index):
            predictions = model(patients, scaling, level)
            total += float(patient_losses(model, predictions, patients.outcomes).double().sum())
    return LossSum(total, len(index))
