"""One round of local training: from the global weights to the update of one site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import Parameter

from mmfed_client.training.local_site import LocalSite
from mmfed_client.training.optimiser import build_optimiser, set_learning_rate
from mmfed_client.training.reproducible import same_bits
from mmfed_common.errors import ModelError
from mmfed_common.model import MultimodalNetwork
from mmfed_common.patients import PatientTensors
from mmfed_common.randomness import derive_seed, numpy_generator
from mmfed_common.scaling import Scaling
from mmfed_common.schedule import Place, trained_parameters
from mmfed_common.study import Study
from mmfed_common.tasks.objectives import stage_losses


@dataclass(frozen=True)
class LocalUpdate:
    """What one round of training gives.

    Attributes
    ----------
    trained
        The parameters that the stage trains, on the CPU.
    patients
        How many patients were trained on: the weight of this update.
    loss
        Mean loss over patients during the last epoch, before each step.
    """

    trained: dict[str, Tensor]
    patients: int
    loss: float


def train_round(
    site: LocalSite,
    weights: Mapping[str, Tensor],
    scaling: Scaling,
    place: Place,
    proximal_mu: float = 0.0,
) -> LocalUpdate:
    """Train for one round.

    The loss of a batch is the mean over its patients of the stage's objective, plus FedProx's
    ``proximal_mu / 2 · ‖w − w_global‖²`` over the trained parameters (Li et al., 2020, arXiv:1812.06127),
    plus the stage's ``sparsity · Σ|w|`` over those that weight decay pulls on.

    Raises
    ------
    StudyError
        ``MMF-505`` when a held-out patient is about to be trained on.
    ModelError
        ``MMF-604`` when the loss or a weight becomes non-finite.
    """
    study = site.study
    model = site.load(weights)
    trained = trained_of(model, place, study)
    anchors = [parameter.detach().clone() for parameter in trained.values()] if proximal_mu > 0 else []
    sparse = [p for n, p in trained.items() if place.stage.sparsity > 0 and model.shrinks(n)]
    optimiser = build_optimiser(study.training, place.stage, trained, model.shrinks)
    clip = study.training.gradient_clip
    loss_sum = 0.0
    model.train()
    for epoch in range(study.training.local_epochs):
        set_learning_rate(optimiser, place.learning_rate(study.training, epoch))
        loss_sum = 0.0
        with same_bits(derive_seed(study.study.seed, "dropout", site.name, place.round, epoch)):
            for index in batches(site, place.round, epoch):
                patients = site.take(index)
                optimiser.zero_grad(set_to_none=True)
                loss = _mean_loss(model, patients, scaling, place)
                loss_sum += float(loss.detach()) * len(index)
                if anchors:
                    pairs = zip(trained.values(), anchors, strict=True)
                    distance = torch.stack([((p - a) ** 2).sum() for p, a in pairs]).sum()
                    loss = loss + 0.5 * proximal_mu * distance
                if sparse:
                    absolute = torch.stack([p.abs().sum() for p in sparse]).sum()
                    loss = loss + place.stage.sparsity * absolute
                if not bool(torch.isfinite(loss)):
                    raise ModelError("MMF-604", f"the loss is not finite in round {place.round}", site.name)
                loss.backward()  # type: ignore[no-untyped-call]
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_(list(trained.values()), clip)
                optimiser.step()
    result = {name: parameter.detach().cpu().clone() for name, parameter in trained.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in result.values()):
        raise ModelError("MMF-604", f"a weight is not finite after round {place.round}", site.name)
    return LocalUpdate(result, len(site.fit), loss_sum / max(len(site.fit), 1))


def batches(site: LocalSite, round_number: int, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the indices of each batch; every patient that trains is in one batch of each epoch."""
    size = site.study.training.batch
    if size == 0 or size >= len(site.fit):
        if len(site.fit):
            yield site.fit
        return
    generator = numpy_generator(site.study.study.seed, "batches", site.name, round_number, epoch)
    order = generator.permutation(site.fit)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def trained_of(model: MultimodalNetwork, place: Place, study: Study) -> dict[str, Parameter]:
    """Give the parameters that the stage trains, by name; no other asks for a gradient afterwards."""
    parameters = dict(model.named_parameters())
    names = trained_parameters(parameters, model.block_of, place.stage, study.privacy, study.model.frozen)
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in names)
    return {name: parameters[name] for name in names}


def _mean_loss(model: MultimodalNetwork, patients: PatientTensors, scaling: Scaling, place: Place) -> Tensor:
    losses: Tensor = stage_losses(model, patients, scaling, place.stage)
    return losses.sum() / len(patients)
