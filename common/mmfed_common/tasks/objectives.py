"""What a stage's loss is: of the outcomes, of hidden values, or of telling patients apart."""

from __future__ import annotations

from torch import Tensor

from mmfed_common.model import MultimodalNetwork
from mmfed_common.patients import PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.study import Stage
from mmfed_common.tasks.multitask import patient_losses


def stage_losses(
    model: MultimodalNetwork, patients: PatientTensors, scaling: Scaling, stage: Stage
) -> Tensor:
    """Give the loss of each patient that a stage trains by, ``(patients,)``.

    That of outcomes and of hidden values is each patient's own. Which nodes are hidden, and what a view
    leaves out, is drawn from torch's global generator, also in evaluation mode.
    """
    if stage.objective == "masked_nodes":
        return model.reconstruction_losses(patients, scaling)
    if stage.objective == "contrastive":
        return model.contrastive_losses(patients, scaling)
    return patient_losses(model, model(patients, scaling, stage.level), patients.outcomes)
