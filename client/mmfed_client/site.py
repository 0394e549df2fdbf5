"""What one site brings to a study: its patients as tensors, and which of them are held out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from mmfed_common.heldout import HeldOutRule
from mmfed_common.patients import PatientTensors
from mmfed_common.topology import Topology


@dataclass(frozen=True)
class SiteData:
    """One site's patients.

    Attributes
    ----------
    name
        The site's name.
    patients
        All of the site's patients, raw (not yet standardised).
    held_out
        ``(patients,)`` bool, from the study's held-out rule.
    topology
        The shared graph; its correlation relations may be this site's own.
    folds
        The cohort's own fold numbers, where it has them; with ``rule = "fold"`` they let the held-out rule be
        checked again wherever data is read.
    """

    name: str
    patients: PatientTensors
    held_out: npt.NDArray[np.bool_]
    topology: Topology
    folds: tuple[int, ...] | None = None

    @cached_property
    def training(self) -> PatientTensors:
        """Patients that may train, checked against the held-out rule (``MMF-505``)."""
        index = np.flatnonzero(~self.held_out)
        HeldOutRule.refuse_held_out(self.held_out[index], [self.patients.patient_ids[i] for i in index])
        return self.patients.select(torch.from_numpy(index))

    @cached_property
    def test(self) -> PatientTensors:
        """Held-out patients."""
        return self.patients.select(torch.from_numpy(np.flatnonzero(self.held_out)))
