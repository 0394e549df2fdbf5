"""A site at work: its patients on the device, its model, and who of them may train. Built once a process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmfed_client.site import SiteData
from mmfed_client.training.feedback import Feedback
from mmfed_client.training.reproducible import training_device
from mmfed_common.arrays import Shapes, digest_of, shapes_of
from mmfed_common.errors import ModelError
from mmfed_common.heldout import HeldOutRule, hash_fraction
from mmfed_common.model import MultimodalNetwork, build_model
from mmfed_common.patients import PatientTensors
from mmfed_common.scaling import Moments, Scaling
from mmfed_common.study import Study

ROOM_PER_ARRAY, ROOM = 1024, 2**20
"""Bytes of a message beside its numbers."""


class LocalSite:
    """One site's patients and model, kept between rounds because building them is what costs.

    Nothing that a round changes is kept, but what compression loses, and that on the disk: weights and
    scaling come with each message, the optimiser starts afresh. So a site may be killed and started again
    between any two rounds.

    Parameters
    ----------
    study
        The study this site takes part in.
    data
        The site's patients.
    device
        Where to work; by default a GPU where there is one.
    kept
        Folder for what must outlive the process: what compression loses. None: nothing does.
    """

    def __init__(
        self,
        study: Study,
        data: SiteData,
        device: torch.device | None = None,
        kept: Path | None = None,
    ) -> None:
        self.study = study
        self.feedback = Feedback(kept)
        self.name = data.name
        self.device = training_device() if device is None else device
        self.patients = data.patients.to(self.device)
        self.topology = data.topology
        self.held_out = _held_out(study, data)
        """``(patients,)`` bool: held out by the site's own mark or by the study's rule."""
        training = np.flatnonzero(~data.held_out)
        share, seed = study.training.validation_fraction, study.study.seed
        chosen = [hash_fraction(seed, data.patients.patient_ids[i], "validation") < share for i in training]
        validates = np.array(chosen, dtype=np.bool_)
        self.fit = training[~validates]
        """``(n,)`` indices of the patients that are trained on."""
        self.validation = training[validates]
        """``(n,)`` indices of the training patients that only early stopping looks at."""
        self.test = np.flatnonzero(data.held_out)
        """``(n,)`` indices of the held-out patients."""
        self.proven: set[tuple[str, ...]] = set()
        """What was trained when the patients' gradients were last seen to be their own."""

    @cached_property
    def model(self) -> MultimodalNetwork:
        """The study's model over this site's graph, on the device."""
        return build_model(self.study, self.topology).to(self.device)

    @cached_property
    def shapes(self) -> Shapes:
        """Shapes and types of all weights."""
        return shapes_of(self.model.state_dict())

    @cached_property
    def scaling_shapes(self) -> Shapes:
        """Shapes and types of the scaling."""
        return shapes_of(Scaling.from_reference(self.study.contract, self.topology).to_arrays())

    @property
    def most_message(self) -> int:
        """Bytes that a message for this site can need: every weight and the scaling once, with room."""
        arrays = {**self.shapes, **self.scaling_shapes}
        numbers = sum(math.prod(shape) * dtype.itemsize for shape, dtype in arrays.values())
        return numbers + ROOM_PER_ARRAY * len(arrays) + ROOM

    @cached_property
    def every_fit_patient(self) -> PatientTensors:
        """All patients that are trained on, for studies that take them in one step."""
        return self.patients.select(torch.from_numpy(self.fit).to(self.device))

    @cached_property
    def fit_digest(self) -> bytes:
        """SHA-256 over everything about the patients that are trained on, in their order."""
        chosen = torch.from_numpy(self.fit).to(self.device)
        arrays: dict[str, Tensor | None] = {**vars(self.patients.outcomes.select(chosen))}
        for name, node in self.patients.nodes.items():
            arrays |= {f"{name}.{part}": tensor for part, tensor in vars(node.select(chosen)).items()}
        return digest_of({name: tensor for name, tensor in arrays.items() if tensor is not None})

    def take(self, index: npt.NDArray[np.int64]) -> PatientTensors:
        """Take patients for training.

        Raises
        ------
        StudyError
            ``MMF-505`` when one of them is held out.
        """
        ids = self.patients.patient_ids
        HeldOutRule.refuse_held_out(self.held_out[index], [ids[i] for i in index])
        if index is self.fit:
            return self.every_fit_patient
        return self.patients.select(torch.from_numpy(index).to(self.device))

    def moments(self) -> Moments:
        """Sufficient statistics over the training patients, validation part included, on the CPU."""
        moments = Moments.of(self.take(np.sort(np.concatenate([self.fit, self.validation]))))
        return Moments.from_arrays({name: tensor.cpu() for name, tensor in moments.to_arrays().items()})

    def scaling(self, sent: Scaling | None) -> Scaling:
        """The scaling to use: the one sent, this site's own, or the contract's reference."""
        kind = self.study.contract.normalisation
        if kind == "federated":
            if sent is None:
                raise ModelError("MMF-605", "the message holds no scaling, which this study needs")
            return sent.to(self.device)
        return self._own_scaling

    @cached_property
    def _own_scaling(self) -> Scaling:
        contract = self.study.contract
        if contract.normalisation == "site":
            return Scaling.from_moments(self.moments(), contract, self.topology).to(self.device)
        return Scaling.from_reference(contract, self.topology).to(self.device)

    def load(self, weights: Mapping[str, Tensor]) -> MultimodalNetwork:
        """Put weights into the model; blocks that the weights leave out keep what they had, unused.

        Raises
        ------
        ModelError
            ``MMF-605`` for a weight that the model does not have.
        """
        unknown = self.model.load_state_dict(dict(weights), strict=False).unexpected_keys
        if unknown:
            raise ModelError("MMF-605", f"unknown weights: {', '.join(unknown)}", self.name)
        return self.model


def _held_out(study: Study, data: SiteData) -> npt.NDArray[np.bool_]:
    """Apply the rule again where it can be, so that a wrong mark is found and not believed."""
    rule = study.held_out_rule
    marked = np.asarray(data.held_out, dtype=np.bool_)
    if rule.rule == "fold" and data.folds is None:
        return marked
    return marked | rule.held_out(data.patients.patient_ids, data.name, data.folds)
