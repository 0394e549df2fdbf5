"""Losses over some of a site's patients, without training on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmfed_client.training.local_site import LocalSite
from mmfed_common.model import MultimodalNetwork
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.study import Level, Stage
from mmfed_common.tasks.multitask import patient_losses
from mmfed_common.tasks.objectives import stage_losses

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
    site: LocalSite,
    model: MultimodalNetwork,
    scaling: Scaling,
    stage: Stage,
    index: npt.NDArray[np.int64],
    minimum_cell: int = 1,
) -> LossSum:
    """Sum the loss over patients in evaluation mode.

    Parameters
    ----------
    stage
        Whose loss.
    index
        ``(n,)`` indices of patients of the site.
    minimum_cell
        A task, or label, that is known for fewer of these patients is left out: who sends the weights of the
        tasks could make the sum that of a single task, and so of the few patients who have it. Likewise, in
        a stage without outcomes, a feature that fewer of them have.
    """
    model.eval()
    total = 0.0
    here = torch.from_numpy(index).to(site.patients.outcomes.response.device)
    asked = _common(site.patients.outcomes.select(here), minimum_cell)
    often = {n: _often(node.present[here], minimum_cell) for n, node in site.patients.nodes.items()}
    with torch.no_grad():
        for number, patients in enumerate(chunks(site.patients, index)):
            first = number * CHUNK
            place = torch.arange(first, first + len(patients), device=here.device)
            some = replace(patients, outcomes=asked.select(place))
            if stage.objective != "outcomes":
                some = replace(some, nodes=_measured(patients.nodes, often))
            total += float(stage_losses(model, some, scaling, stage).double().sum())
    return LossSum(total, len(index))


def each_loss(
    site: LocalSite,
    model: MultimodalNetwork,
    scaling: Scaling,
    level: Level,
    index: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Each patient's loss in evaluation mode, ``(n,)``; it stays at the site.

    Parameters
    ----------
    index
        ``(n,)`` indices of patients of the site.
    """
    model.eval()
    with torch.no_grad():
        parts = [
            patient_losses(model, model(patients, scaling, level), patients.outcomes).double().cpu().numpy()
            for patients in chunks(site.patients, index)
        ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _common(outcomes: Outcomes, least: int) -> Outcomes:
    """Outcomes without the tasks and labels that fewer than ``least`` patients have."""
    response, toxicity = outcomes.response, outcomes.toxicity_known
    return replace(
        outcomes,
        survival_known=outcomes.survival_known & (outcomes.survival_known.sum() >= least),
        response=torch.where((response >= 0).sum() >= least, response, -1),
        toxicity_known=toxicity & (toxicity.sum(dim=0) >= least),
    )


def _often(present: Tensor, least: int) -> Tensor:
    """Which nodes' values at least so many patients have, ``(nodes, channels)`` bool."""
    enough: Tensor = present.sum(dim=0) >= least
    return enough


def _measured(nodes: Mapping[str, NodeTensors], often: Mapping[str, Tensor]) -> dict[str, NodeTensors]:
    """Nodes without the features that only a few patients have."""
    return {
        name: NodeTensors(
            torch.where(often[name], node.values, 0.0), node.present & often[name], node.neighbours
        )
        for name, node in nodes.items()
    }
