"""What the server sees of one update: the change of the weights that a few patients cause.

The worst case for the site: one step of plain descent over exactly these patients, without dropout, weight
decay or clipping of the whole, from weights that the server chose. The step is made by the site's own code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite, train_round
from mmfed_client.training.reproducible import same_bits
from mmfed_common.bundle import Bundle
from mmfed_common.compression import Compression, compressed, restored
from mmfed_common.patients import Outcomes, PatientTensors
from mmfed_common.privacy.plan import PrivacyPlan
from mmfed_common.scaling import Scaling
from mmfed_common.schedule import Place, trained_parameters
from mmfed_common.study import Level, Study
from mmfed_common.tasks.multitask import patient_losses
from mmfed_common.trainable import is_reached
from mmfed_simulations.attacks.defences import OPEN, Defence

Gradient = dict[str, Tensor]
STEP = 1.0
"""Learning rate of the step; the server knows it and divides by it."""


@dataclass(frozen=True)
class SingleUpdate:
    """One site's model at one round of a study, as the server knows it.

    Attributes
    ----------
    study
        The bundle's study, made to take one plain step a round.
    state, scaling
        What the server sent.
    level
        Level of the model in that round.
    """

    study: Study
    state: Mapping[str, Tensor]
    scaling: Scaling | None
    level: Level

    @staticmethod
    def of(bundle: Bundle, level: Level | None = None) -> SingleUpdate:
        """Stand at the end of a bundle's study, where one more round follows.

        Parameters
        ----------
        level
            What the round trains, and all below it; by default the highest that the study trains.
        """
        study = bundle.study
        chosen = level or study.training.stages[-1].level
        blocks = ("clinical", "additive", "full")
        trains = blocks[: blocks.index(chosen) + 1]
        stage = {"level": chosen, "rounds": 1, "learning_rate": STEP, "trains": trains}
        plain = study.with_changes(
            model={"dropout": 0.0, "modality_dropout": 0.0, "kernel": "plain"},
            training={
                "stages": [stage],
                "batch": 0,
                "local_epochs": 1,
                "optimiser": "sgd",
                "gradient_clip": None,
                "validation_fraction": 0.0,
                "patience": None,
            },
            aggregation={"strategy": "fedavg", "secure": False, "compression": "none"},
            privacy=OPEN,
            evaluation={"rule": "none"},
        )
        state = {name: t for name, t in bundle.state.items() if is_reached(name, "outcomes")}
        return SingleUpdate(plain, state, bundle.scaling, chosen)

    def site(self, data: SiteData, index: npt.NDArray[np.int64]) -> LocalSite:
        """The site with only these patients in its update."""
        patients = data.patients.select(torch.from_numpy(index))
        part = SiteData(data.name, patients, np.zeros(len(index), dtype=np.bool_), data.topology)
        return LocalSite(self.study, part, torch.device("cpu"))

    def gradient(self, data: SiteData, index: npt.NDArray[np.int64]) -> Gradient:
        """Mean gradient over some patients, taken from the update that the site's own code gives."""
        site = self.site(data, index)
        place = Place.of(self.study.training, 1)
        with same_bits(self.study.study.seed):
            update = train_round(site, self.state, self.used_scaling(data), place)
        return {name: (self.state[name] - after) / STEP for name, after in update.trained.items()}

    def used_scaling(self, data: SiteData) -> Scaling:
        """The scaling at a site; where each site has its own, the server is given it."""
        return LocalSite(self.study, data, torch.device("cpu")).scaling(self.scaling)

    def seen(
        self,
        sites: Sequence[SiteData],
        index: Sequence[npt.NDArray[np.int64]],
        defence: Defence,
        noise: DpNoise | None,
        draw: torch.Generator,
    ) -> Gradient:
        """What the server sees of an update under a defence, as a gradient.

        Parameters
        ----------
        sites, index
            Who takes part with which patients: one site, or with masked sums all of them.
        noise
            Under differential privacy.
        """
        if noise is not None:
            return noise.private([self.gradient(sites[0], one[None]) for one in index[0]], draw)
        parts = [self.gradient(site, chosen) for site, chosen in zip(sites, index, strict=True)]
        sizes = [len(chosen) for chosen in index]
        total = {
            name: torch.stack([part[name] * size for part, size in zip(parts, sizes, strict=True)]).sum(0)
            for name in parts[0]
        }
        mean = {name: value / sum(sizes) for name, value in total.items()}
        return self.rounded(mean, defence.compression)

    def rounded(self, gradient: Gradient, kind: Compression) -> Gradient:
        """The gradient as the server has it when the change of the weights travelled in fewer bits."""
        if kind == "none":
            return gradient
        sent = compressed({name: -STEP * value for name, value in gradient.items()}, kind)
        after = restored(sent, self.state, kind)
        return {name: (self.state[name] - after[name]) / STEP for name in gradient}

    def model_gradient(
        self, site: LocalSite, patients: PatientTensors, scaling: Scaling, *, twice: bool
    ) -> Gradient:
        """Mean gradient over imagined patients; with ``twice`` it can itself be differentiated."""
        model = site.load(self.state)
        study = self.study
        names = trained_parameters(
            site.shapes, model.block_of, study.training.stages[0], study.privacy, study.model.frozen
        )
        parameters = dict(model.named_parameters())
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in names)
        predictions = model(patients, scaling, self.level)
        loss = patient_losses(model, predictions, patients.outcomes).mean()
        found = torch.autograd.grad(
            loss, [parameters[name] for name in names], create_graph=twice, allow_unused=True
        )
        return {
            name: torch.zeros_like(parameters[name]) if one is None else one
            for name, one in zip(names, found, strict=True)
        }


@dataclass(frozen=True)
class DpNoise:
    """A private step: each patient's gradient clipped, Gaussian noise on the sum.

    Attributes
    ----------
    clipping
        Largest length of one patient's gradient.
    sigma
        Noise multiplier that the study needs at a site of the real size.
    """

    clipping: float
    sigma: float

    @staticmethod
    def of(study: Study, patients: int) -> DpNoise:
        """The noise of a study at a site.

        Raises
        ------
        PrivacyError
            When the study cannot be run there.
        """
        return DpNoise(study.privacy.clipping, PrivacyPlan.of(study, patients).sigma)

    def private(self, gradients: Sequence[Gradient], draw: torch.Generator) -> Gradient:
        """Clip, add, divide by the number of patients."""
        lengths = [torch.sqrt(sum_of_squares(one)) for one in gradients]
        factors = [min(1.0, self.clipping / max(float(length), 1e-12)) for length in lengths]
        noisy = {}
        for name, like in gradients[0].items():
            clipped = torch.stack([one[name] * f for one, f in zip(gradients, factors, strict=True)]).sum(0)
            noise = torch.randn(like.shape, generator=draw) * self.sigma * self.clipping
            noisy[name] = (clipped + noise) / len(gradients)
        return noisy


def sum_of_squares(gradient: Gradient) -> Tensor:
    """Squared Euclidean length over all parameters."""
    return torch.stack([(value**2).sum() for value in gradient.values()]).sum()


def inner_product(first: Gradient, second: Gradient) -> Tensor:
    """Over all parameters."""
    return torch.stack([(first[name] * second[name]).sum() for name in first]).sum()


def cosine(first: Gradient, second: Gradient) -> Tensor:
    """Cosine of the angle between two gradients."""
    length = torch.sqrt(sum_of_squares(first) * sum_of_squares(second))
    return inner_product(first, second) / length.clamp(min=1e-20)


def some_outcomes(outcomes: Outcomes, index: npt.NDArray[np.int64]) -> Outcomes:
    """Outcomes of some patients."""
    return outcomes.select(torch.from_numpy(index))
