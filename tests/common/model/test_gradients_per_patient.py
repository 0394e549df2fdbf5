"""Opacus accepts the model, and its hooks give exact gradients per patient for every parameter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from opacus import GradSampleModule
from opacus.validators import ModuleValidator
from torch import Tensor
from torch.func import functional_call, grad, vmap

from mmfed_common.model import MultimodalNetwork
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.tasks import multitask

PATIENTS = 12
Tree = dict[str, dict[str, Tensor]]


class _Losses(torch.nn.Module):
    """The losses of patients given as a tree of tensors, which ``vmap`` can map over."""

    def __init__(self, model: MultimodalNetwork, scaling: Scaling) -> None:
        super().__init__()
        self.model = model
        self.scaling = scaling

    def forward(self, nodes: Tree, outcomes: dict[str, Tensor]) -> Tensor:
        tensors = {name: NodeTensors(**fields) for name, fields in nodes.items()}
        patients = PatientTensors(("?",) * PATIENTS, tensors, Outcomes(**outcomes))
        predictions = self.model(patients, self.scaling)
        return multitask.patient_losses(self.model, predictions, patients.outcomes)


def _tree(patients: PatientTensors) -> tuple[Tree, dict[str, Tensor]]:
    fields = ("values", "present", "neighbours")
    nodes = {
        name: {f: value for f in fields if (value := getattr(node, f)) is not None}
        for name, node in patients.nodes.items()
    }
    return nodes, dict(vars(patients.outcomes))


def _by_vmap(losses: _Losses, tree: tuple[Tree, dict[str, Tensor]]) -> dict[str, Tensor]:
    parameters = {name: p.detach() for name, p in losses.named_parameters()}

    def one(weights: dict[str, Tensor], nodes: Tree, outcomes: dict[str, Tensor]) -> Tensor:
        alone = {n: {f: t.unsqueeze(0) for f, t in fields.items()} for n, fields in nodes.items()}
        result = functional_call(losses, weights, (alone, {n: t.unsqueeze(0) for n, t in outcomes.items()}))
        assert isinstance(result, Tensor)
        return result.sum()

    return vmap(grad(one), in_dims=(None, 0, 0))(parameters, *tree)  # type: ignore[no-any-return]


def test_opacus_accepts_the_model(make_model: Callable[..., MultimodalNetwork]) -> None:
    assert ModuleValidator.validate(make_model(), strict=True) == []


@pytest.mark.parametrize(
    "section", [{}, {"fusion": "mean", "pathway_tokens": False}], ids=["default", "mean"]
)
def test_hooks_equal_vmap(
    make_model: Callable[..., MultimodalNetwork],
    make_patients: Callable[..., PatientTensors],
    scaling: Scaling,
    section: dict[str, object],
) -> None:
    patients = make_patients(PATIENTS, seed=3)
    assert patients.outcomes.survival_known.any()
    assert not patients.outcomes.survival_known.all()
    model = make_model(dropout=0.0, modality_dropout=0.0, kernel="plain", **section)
    expected = _by_vmap(_Losses(model, scaling), _tree(patients))

    model.kernel = "auto"
    hooked = GradSampleModule(model, batch_first=True, loss_reduction="sum", strict=True)
    predictions = hooked(patients, scaling)
    multitask.patient_losses(model, predictions, patients.outcomes).sum().backward()
    found = {name: p.grad_sample for name, p in model.named_parameters()}
    assert {f"model.{name}" for name in found} == set(expected)
    for name, sample in found.items():
        assert sample is not None, name
        torch.testing.assert_close(sample, expected[f"model.{name}"], rtol=1e-5, atol=1e-5, msg=name)
        assert sample.abs().max() > 0, f"{name} takes no part"


def test_hooks_accept_an_empty_batch(
    make_model: Callable[..., MultimodalNetwork],
    make_patients: Callable[..., PatientTensors],
    scaling: Scaling,
) -> None:
    model = make_model()
    hooked = GradSampleModule(model, batch_first=True, loss_reduction="sum", strict=True)
    patients = make_patients(0)
    multitask.patient_losses(model, hooked(patients, scaling), patients.outcomes).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad_sample.shape == (0, *parameter.shape), name
