"""A site's patients as dense tensors over one shared topology: the batched form used in training.

The patient is always dimension 0. What differs between patients is data on the shared topology: values and
presence masks. Node types carry the names of the graph: ``clinical_feature``, ``gene``, ``protein``,
``metabolite``, ``imaging_feature``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

NODE_TYPES: tuple[str, ...] = ("clinical_feature", "gene", "protein", "metabolite", "imaging_feature")


@dataclass(frozen=True)
class NodeTensors:
    """Values of one node type.

    Attributes
    ----------
    values
        ``(patients, nodes, channels)`` float32 in the contract's units, after transform and clipping, before
        standardisation; 0 where absent, never NaN.
    present
        ``(patients, nodes, channels)`` bool, whether the value was measured.
    neighbours
        Imaging only: ``(patients, nodes, k)`` int64, spatial neighbours, padded with -1.
    """

    values: Tensor
    present: Tensor
    neighbours: Tensor | None = None

    def select(self, index: Tensor) -> NodeTensors:
        """Take some patients."""
        neighbours = None if self.neighbours is None else self.neighbours[index]
        return NodeTensors(self.values[index], self.present[index], neighbours)

    def to(self, device: torch.device | str) -> NodeTensors:
        """Move to a device."""
        neighbours = None if self.neighbours is None else self.neighbours.to(device)
        return NodeTensors(self.values.to(device), self.present.to(device), neighbours)

    def has_modality(self) -> Tensor:
        """``(patients,)`` bool: whether the patient has any value of this node type."""
        return self.present.flatten(1).any(dim=1)


@dataclass(frozen=True)
class Outcomes:
    """Outcomes, each of which may be missing for a patient.

    Attributes
    ----------
    time_days, event, survival_known
        ``(patients,)`` follow-up in days, 1 where the event happened, whether both are known.
    response
        ``(patients,)`` int64 class index, -1 where unknown.
    toxicity, toxicity_known
        ``(patients, labels)`` float 0/1 and whether each label is known.
    """

    time_days: Tensor
    event: Tensor
    survival_known: Tensor
    response: Tensor
    toxicity: Tensor
    toxicity_known: Tensor

    def select(self, index: Tensor) -> Outcomes:
        """Take some patients."""
        return Outcomes(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})

    def to(self, device: torch.device | str) -> Outcomes:
        """Move to a device."""
        return Outcomes(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class PatientTensors:
    """Some patients: node tensors by node type, and outcomes.

    A node type that the study does not use is absent from ``nodes``; one that a patient lacks is all absent
    in the masks.
    """

    patient_ids: tuple[str, ...]
    nodes: Mapping[str, NodeTensors]
    outcomes: Outcomes

    def __len__(self) -> int:
        return len(self.patient_ids)

    def select(self, index: Tensor) -> PatientTensors:
        """Take some patients, ``index`` being ``(n,)`` int64 on the tensors' device."""
        ids = tuple(self.patient_ids[int(i)] for i in index.tolist())
        nodes = {name: tensors.select(index) for name, tensors in self.nodes.items()}
        return PatientTensors(ids, nodes, self.outcomes.select(index))

    def to(self, device: torch.device | str) -> PatientTensors:
        """Move to a device."""
        return replace(
            self,
            nodes={name: tensors.to(device) for name, tensors in self.nodes.items()},
            outcomes=self.outcomes.to(device),
        )

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.outcomes.time_days.device
