"""One round of training under differential privacy: DP-SGD (Abadi et al., CCS 2016, arXiv:1607.00133)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import Parameter

from mmfed_client.privacy.gradients import CHUNK, PatientGradients
from mmfed_client.privacy.inputs import inputs_of
from mmfed_client.privacy.noise import SecretStream
from mmfed_client.privacy.separable import refuse_inseparable
from mmfed_client.privacy.spender import Spender
from mmfed_client.privacy.step import add_pulls, set_noisy_gradients
from mmfed_client.training.local import LocalUpdate, trained_of
from mmfed_client.training.local_site import LocalSite
from mmfed_client.training.optimiser import build_optimiser, set_learning_rate
from mmfed_client.training.reproducible import same_bits
from mmfed_common.errors import ModelError
from mmfed_common.heldout import HeldOutRule
from mmfed_common.model import MultimodalNetwork
from mmfed_common.privacy import PrivacyPlan
from mmfed_common.scaling import Scaling
from mmfed_common.schedule import Place
from mmfed_common.tasks.objectives import stage_losses

WITHHELD = 0.0
"""Stands for the training loss: the mean over patients who are not clipped would cost more privacy."""


def train_private_round(
    site: LocalSite,
    weights: Mapping[str, Tensor],
    scaling: Scaling,
    place: Place,
    proximal_mu: float,
    spender: Spender,
    secret: bytes,
) -> LocalUpdate:
    """Train for one round with noise, and pay for each step before it is made.

    A step draws each patient on his own with the plan's rate, clips each one's gradient, sums, adds noise to
    the sum and divides by the number of patients expected, not by the number drawn. An empty draw takes a
    step of noise alone. FedProx, sparsity, weight decay and the clipping of the whole gradient look at no
    patient and come after the noise.

    Which patients are drawn and what the noise is depends on the site's secret and on everything that goes
    in: the same round from the same weights gives the same bits, and is paid for once. The number of
    patients is taken to be public; the loss is withheld.

    Parameters
    ----------
    spender
        Pays; its plan gives the noise, the rate and the steps.
    secret
        Known to the site alone.

    Raises
    ------
    PrivacyError
        ``MMF-302`` or ``MMF-303`` when patients' gradients cannot be told apart; the spender's own when the
        budget does not allow the next step.
    StudyError
        ``MMF-505`` when a held-out patient is among those who train.
    ModelError
        ``MMF-604`` when a weight becomes non-finite.
    """
    study, plan = site.study, spender.plan
    model, trained = begin(site, weights, place, plan)
    anchors = {name: parameter.detach().clone() for name, parameter in trained.items()}
    sparsity = {name: place.stage.sparsity for name in trained if model.shrinks(name)}
    optimiser = build_optimiser(study.training, place.stage, trained, model.shrinks)
    steps_of_epoch = plan.steps_of_round // study.training.local_epochs
    inputs = inputs_of(secret, site, plan, sent(weights, scaling), "train", place.round, repr(proximal_mu))
    with PatientGradients(model, tuple(trained)).listening() as gradients:
        for step in range(plan.steps_of_round):
            spender.before_step(place.round, step, inputs)
            stream = SecretStream.of(secret, study.hash, site.name, "step", place.round, step, inputs)
            set_learning_rate(optimiser, place.learning_rate(study.training, step // steps_of_epoch))
            with same_bits(stream.seed()):
                drawn = site.fit[stream.chosen(len(site.fit), plan.rate)]
                total = clipped_sum(site, model, gradients, drawn, scaling, place)
                expected = plan.rate * plan.patients
                set_noisy_gradients(trained, total, study.privacy.clipping, plan.sigma, expected, stream)
                add_pulls(trained, anchors, proximal_mu, sparsity)
                if study.training.gradient_clip is not None:
                    torch.nn.utils.clip_grad_norm_(list(trained.values()), study.training.gradient_clip)
                optimiser.step()
    spender.reconcile(place.round, inputs, plan.steps_of_round)
    result = {name: parameter.detach().cpu().clone() for name, parameter in trained.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in result.values()):
        raise ModelError("MMF-604", f"a weight is not finite after round {place.round}", site.name)
    return LocalUpdate(result, len(site.fit), WITHHELD)


def begin(
    site: LocalSite, weights: Mapping[str, Tensor], place: Place, plan: PrivacyPlan
) -> tuple[MultimodalNetwork, dict[str, Parameter]]:
    """Load the weights, and make sure that clipping patient by patient will mean what it says.

    Returns
    -------
    The model in training mode, and the parameters that the stage trains.

    Raises
    ------
    PrivacyError, StudyError
        As :func:`train_private_round`, before anything is paid.
    """
    if plan.patients != len(site.fit):
        raise ValueError(f"the plan is for {plan.patients} patients, the site trains on {len(site.fit)}")
    ids = site.patients.patient_ids
    HeldOutRule.refuse_held_out(site.held_out[site.fit], [ids[i] for i in site.fit])
    model = site.load(weights)
    trained = trained_of(model, place, site.study)
    refuse_inseparable(site, place, tuple(trained))
    model.train()
    return model, trained


def sent(weights: Mapping[str, Tensor], scaling: Scaling) -> dict[str, Tensor]:
    """All arrays of a message that a round's result depends on."""
    return {**weights, **{f"scaling.{name}": tensor for name, tensor in scaling.to_arrays().items()}}


def clipped_sum(
    site: LocalSite,
    model: MultimodalNetwork,
    gradients: PatientGradients,
    drawn: npt.NDArray[np.int64],
    scaling: Scaling,
    place: Place,
) -> Tensor:
    """Sum the clipped gradients of some patients: all parameters end to end, float64 on the CPU."""
    parts = math.ceil(len(site.fit) / CHUNK)  # of all patients, not of those drawn: it must not tell of them
    total = torch.zeros(gradients.width, dtype=torch.float64)
    for start in range(0, len(drawn), CHUNK):
        patients = site.take(drawn[start : start + CHUNK])

        def losses() -> Tensor:
            return stage_losses(model, patients, scaling, place.stage)  # noqa: B023 - called at once

        total += gradients.clipped_sum(losses, site.study.privacy.clipping, parts).flat
    return total
