"""The removal test: is a patient's gradient his own, whoever else is in the batch?

Clipping each patient's gradient bounds what one patient can do only if taking him out of a batch takes out
his gradient and leaves those of the others as they are. It does for a sum over patients. It does not for
Cox's partial likelihood (everybody at risk stands in a patient's term), contrastive and ranking losses,
batch normalisation, centring within the batch, or a mean over the batch. No list of names finds all of
these; taking patients out and looking does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from mmfed_client.privacy.gradients import PatientGradients
from mmfed_client.privacy.imagined import imagined_patients
from mmfed_client.training.local_site import LocalSite
from mmfed_client.training.reproducible import same_bits
from mmfed_common.errors import PrivacyError
from mmfed_common.model import MultimodalNetwork
from mmfed_common.model.full import FullBlock
from mmfed_common.model.reconstruction import NodeMasking
from mmfed_common.patients import PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.schedule import Place
from mmfed_common.tasks.objectives import stage_losses

ROUNDING = 1e-5
"""By how much, relatively, the clipped sum may move more than ``clipping``: rounding in float32."""

LARGEST_CHANGE = 1e-3
"""By how much, relatively, another patient's gradient may change: rounding, where terms nearly cancel."""

NOTHING = 1e-12

IMAGINED, LEFT_OUT, OPENING = 6, (0, 3), 0.3


class Batch(Protocol):
    """Patients that can be taken out."""

    def __len__(self) -> int: ...

    def select(self, index: Tensor) -> Self:
        """Take the patients with these positions, ``(n,)`` int64."""


AnyBatch = TypeVar("AnyBatch", bound=Batch)


@dataclass(frozen=True)
class Sensitivity:
    """What taking one patient out of a batch does.

    Attributes
    ----------
    clipping
        Largest length of one patient's clipped gradient.
    moved
        Largest distance between the sums of clipped gradients with and without a patient.
    changed
        Largest change of another patient's gradient, relative to his and the mean length.
    """

    clipping: float
    moved: float
    changed: float

    @property
    def separable(self) -> bool:
        """Whether each patient's gradient is his own."""
        return self.moved <= self.clipping * (1.0 + ROUNDING) and self.changed <= LARGEST_CHANGE


def removal_test(
    model: nn.Module,
    losses: Callable[[nn.Module, AnyBatch], Tensor],
    batch: AnyBatch,
    clipping: float,
    names: Sequence[str] | None = None,
    leave_out: Sequence[int] | None = None,
) -> Sensitivity:
    """Take patients out of a batch, one at a time, and measure what it does to the gradients of the others.

    It sees what training sees: gradients by the same hooks, the model in training mode. Only chance is
    switched off, which draws for each patient on its own: dropout, and which nodes are hidden.

    Parameters
    ----------
    model
        Any module of linear, embedding and LayerNorm layers; a copy is used.
    losses
        From the model and a batch to ``(patients,)`` losses, or one number for all of them.
    names
        The trained parameters; by default all.
    leave_out
        Positions of the patients who are taken out; by default each in turn.

    Raises
    ------
    PrivacyError
        ``MMF-302`` for a layer that gives no exact gradient per patient.
    """
    model = copy.deepcopy(model).train()
    wanted = tuple(name for name, _ in model.named_parameters()) if names is None else tuple(names)
    chosen = range(len(batch)) if leave_out is None else leave_out
    moved, changed = 0.0, 0.0
    with _without_chance(model), PatientGradients(model, wanted).listening() as gradients:

        def of(some: AnyBatch) -> tuple[Tensor, Tensor]:
            each = _flat(gradients.each(lambda: losses(model, some)))
            return each, gradients.clipped_sum(lambda: losses(model, some), clipping).flat

        everybody, total = of(batch)
        for one in chosen:
            others = torch.tensor([i for i in range(len(batch)) if i != one], dtype=torch.int64)
            without, rest = of(batch.select(others))
            moved = max(moved, float((total - rest).norm()))
            lengths = everybody[others].norm(dim=1)
            change = (everybody[others] - without).norm(dim=1)
            scale = lengths + lengths.mean()
            changed = max([changed, *(change / scale.clamp(min=NOTHING)).tolist()])
    return Sensitivity(clipping, moved, changed)


def refuse_inseparable(site: LocalSite, place: Place, names: tuple[str, ...]) -> None:
    """Run the removal test on the study's own model and loss, once for each set of trained parameters.

    On imagined patients and random weights: nobody's data are touched, and gates that start at zero, which
    would hide the layers behind them, stand open.

    Raises
    ------
    PrivacyError
        ``MMF-302`` as :func:`removal_test`; ``MMF-303`` when a patient's gradient depends on others.
    """
    if names in site.proven:
        return
    study = site.study
    with same_bits(0):
        model = copy.deepcopy(site.model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=OPENING)
        patients = imagined_patients(study.contract, site.topology, IMAGINED).to(site.device)
        scaling = Scaling.from_reference(study.contract, site.topology).to(site.device)

        def losses(module: nn.Module, some: PatientTensors) -> Tensor:
            return stage_losses(cast(MultimodalNetwork, module), some, scaling, place.stage)

        found = removal_test(model, losses, patients, study.privacy.clipping, names, LEFT_OUT)
    if not found.separable:
        what = f"without one patient the sum moves by {found.moved:.4g}, the clipping is {found.clipping:g}"
        raise PrivacyError("MMF-303", f"{what}; gradients of others change by {found.changed:.2g}", site.name)
    site.proven.add(names)


@contextmanager
def _without_chance(model: nn.Module) -> Iterator[None]:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, FullBlock):
            module.modality_dropout = 0.0
        if isinstance(module, NodeMasking):
            module.alike = True
    yield


def _flat(samples: dict[str, Tensor]) -> Tensor:
    """``(patients, numbers)``, all parameters side by side, on the CPU."""
    return torch.cat([tensor.flatten(1) for tensor in samples.values()], dim=1).cpu()
