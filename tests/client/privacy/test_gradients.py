"""Gradients of single patients: equal to vmap and to Opacus, for every layer and however layers are used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from opacus import GradSampleModule
from tests.common.model.conftest import CONTENT, TOPOLOGY, draw_patients, randomise
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from mmfed_client.privacy.gradients import MARGIN, PatientGradients
from mmfed_client.privacy.layers import STRETCH, TOGETHER, explicit
from mmfed_common.errors import PrivacyError
from mmfed_common.model import MultimodalNetwork, build_model
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study
from mmfed_common.tasks import multitask

PATIENTS = 12


def model_of(**section: Any) -> tuple[MultimodalNetwork, Scaling]:
    model_section = {**CONTENT["model"], "dropout": 0.0, "modality_dropout": 0.0, **section}
    study = Study.from_content({**CONTENT, "model": model_section})
    model = build_model(study, TOPOLOGY)
    randomise(model)
    return model, Scaling.from_reference(study.contract, TOPOLOGY)


def by_vmap(model: nn.Module, losses: nn.Module, patients: PatientTensors) -> dict[str, Tensor]:
    """One patient at a time, by ``vmap`` over the pure function."""
    nodes = {
        name: {f: v for f, v in vars(node).items() if v is not None} for name, node in patients.nodes.items()
    }

    def one(weights: Any, of: Any, outcomes: Any) -> Tensor:
        alone = {n: {f: t.unsqueeze(0) for f, t in fields.items()} for n, fields in of.items()}
        shown = {n: t.unsqueeze(0) for n, t in outcomes.items()}
        return functional_call(losses, weights, (alone, shown)).sum()  # type: ignore[no-any-return]

    weights = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    mapped = vmap(grad(one), in_dims=(None, 0, 0))(weights, nodes, dict(vars(patients.outcomes)))
    return {name.removeprefix("model."): tensor for name, tensor in mapped.items()}


class Losses(nn.Module):
    def __init__(self, model: MultimodalNetwork, scaling: Scaling) -> None:
        super().__init__()
        self.model, self.scaling = model, scaling

    def forward(self, nodes: Any, outcomes: Any) -> Tensor:
        tensors = {name: NodeTensors(**fields) for name, fields in nodes.items()}
        patients = PatientTensors(("?",), tensors, Outcomes(**outcomes))
        return multitask.patient_losses(self.model, self.model(patients, self.scaling), patients.outcomes)


@pytest.mark.parametrize(
    "section",
    [{}, {"fusion": "mean", "pathway_tokens": False}, {"hidden": 64}],
    ids=["default", "mean", "wide"],
)
def test_every_parameters_gradients_equal_vmap_and_opacus(section: dict[str, Any]) -> None:
    model, scaling = model_of(kernel="plain", **section)
    patients = draw_patients(PATIENTS, seed=3)
    expected = by_vmap(model, Losses(model, scaling), patients)

    def losses() -> Tensor:
        return multitask.patient_losses(model, model(patients, scaling), patients.outcomes)

    model.kernel = "auto"
    names = tuple(name for name, _ in model.named_parameters())
    with PatientGradients(model, names).listening() as gradients:
        found = gradients.each(losses)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    hooked = GradSampleModule(model, loss_reduction="sum")
    multitask.patient_losses(model, hooked(patients, scaling), patients.outcomes).sum().backward()
    assert set(found) == set(expected)
    for name, sample in found.items():
        torch.testing.assert_close(sample.float(), expected[name], rtol=1e-5, atol=1e-5, msg=name)
        other = model.get_parameter(name).grad_sample
        torch.testing.assert_close(sample.float(), other, rtol=1e-5, atol=1e-5, msg=name)


def test_hooks_leave_the_model_as_it_was() -> None:
    model, scaling = model_of()
    patients = draw_patients(4)
    before = model(patients, scaling).hazard_logits
    names = tuple(name for name, _ in model.named_parameters())
    with PatientGradients(model, names).listening() as gradients:
        gradients.clipped_sum(
            lambda: multitask.patient_losses(model, model(patients, scaling), patients.outcomes), 1.0
        )
    torch.testing.assert_close(model(patients, scaling).hazard_logits, before)
    assert all(not module._forward_hooks for module in model.modules())
    assert all("forward" not in vars(module) for module in model.modules())


class Shared(nn.Module):
    """A layer called three times, once for nothing, and a table looked up by index."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Linear(3, 4), nn.Linear(4, 4)
        self.table, self.norm = nn.Embedding(5, 4), nn.LayerNorm(4)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x)) + self.table(index).sum(dim=1, keepdim=True)
        hidden = self.again(self.norm(self.again(hidden)))
        self.again(hidden)
        return hidden.square().sum(dim=(1, 2))


def test_a_layer_that_is_called_again_has_one_gradient_per_patient() -> None:
    torch.manual_seed(0)
    model = Shared()
    x, index = torch.randn(6, 7, 3), torch.randint(0, 5, (6, 3))
    expected = []
    for patient in range(6):
        model.zero_grad()
        model(x[[patient]], index[[patient]]).sum().backward()
        expected.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    names = tuple(expected[0])
    with PatientGradients(model, names).listening() as gradients:
        found = gradients.each(lambda: model(x, index))
        clipped = gradients.clipped_sum(lambda: model(x, index), 0.5)
    lengths = []
    for patient, own in enumerate(expected):
        for name in names:
            torch.testing.assert_close(found[name][patient].float(), own[name], rtol=1e-4, atol=1e-5)
        lengths.append(torch.cat([own[name].flatten() for name in names]).norm())
    torch.testing.assert_close(clipped.lengths.float(), torch.stack(lengths), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("patients", [0, 1, TOGETHER, 3 * TOGETHER + 1])
@pytest.mark.parametrize("numbers", [1, STRETCH, 2 * STRETCH + 3])
def test_lengths_and_sums_are_those_of_float64(patients: int, numbers: int) -> None:
    samples = torch.randn(patients, numbers)
    weights = torch.rand(patients, dtype=torch.float64)
    parts = explicit(samples)
    torch.testing.assert_close(parts.squares, samples.double().square().sum(dim=1), rtol=1e-5, atol=0.0)
    total = parts.mix(weights, None)
    expected = weights @ samples.double()
    assert float((total - expected).norm()) <= TOGETHER * 2.0**-24 * float(
        (weights * samples.double().norm(dim=1)).sum()
    )


def test_a_patient_whose_gradient_is_not_finite_is_left_out_and_the_others_stay() -> None:
    model = nn.Linear(3, 2)
    x = torch.randn(5, 3)
    broken = x.clone()
    broken[2] = float("nan")
    with PatientGradients(model, ("weight", "bias")).listening() as gradients:
        clean = gradients.clipped_sum(lambda: model(x[[0, 1, 3, 4]]).square().sum(dim=1), 1.0)
        found = gradients.clipped_sum(lambda: model(broken).square().sum(dim=1), 1.0)
    torch.testing.assert_close(found.flat, clean.flat, rtol=1e-6, atol=1e-9)


def test_nobody_is_longer_than_the_clipping_allows() -> None:
    model = nn.Linear(3, 2)
    with PatientGradients(model, ("weight", "bias")).listening() as gradients:
        for scale in (1e-30, 1e-3, 1.0, 1e6, 1e15):
            x = scale * torch.randn(1, 3)
            total = gradients.clipped_sum(lambda: model(x).square().sum(dim=1), 0.3).flat  # noqa: B023
            assert float(total.norm()) <= 0.3 * (1 - MARGIN / 2)


def test_a_sum_of_many_parts_leaves_room_for_the_rounding_of_each() -> None:
    model = nn.Linear(3, 2)
    x = 100.0 * torch.randn(1, 3)
    with PatientGradients(model, ("weight", "bias")).listening() as gradients:
        total = gradients.clipped_sum(lambda: model(x).square().sum(dim=1), 0.3, parts=16).flat
    assert float(total.norm()) == pytest.approx(0.3 / (1 + 16 * MARGIN), rel=MARGIN / 2)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2), nn.MultiheadAttention(4, 2), nn.Embedding(3, 2, padding_idx=0)],
)
def test_a_layer_without_exact_gradients_is_refused(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(2, 2), layer)
    with pytest.raises(PrivacyError) as caught:
        PatientGradients(model, tuple(name for name, _ in model.named_parameters()))
    assert caught.value.code == "MMF-302"


def test_a_parameter_of_two_layers_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    with pytest.raises(PrivacyError, match="shared"):
        PatientGradients(model, ("0.weight",))


def test_a_class_made_from_a_known_layer_is_refused() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    with pytest.raises(PrivacyError):
        PatientGradients(Doubled(2, 2), ("weight",))


@pytest.mark.parametrize(
    ("width_in", "width_out", "places"), [(3, 2, 1), (64, 64, 5), (64, 64, 40), (300, 1, 1), (8, 8, 50)]
)
def test_one_few_and_many_positions_take_different_ways_to_the_same_numbers(
    width_in: int, width_out: int, places: int
) -> None:
    torch.manual_seed(places)
    model = nn.Linear(width_in, width_out)
    x = torch.randn(9, places, width_in)

    def losses() -> Tensor:
        return torch.tanh(model(x)).sum(dim=(1, 2))

    with PatientGradients(model, ("weight", "bias")).listening() as gradients:
        found = gradients.each(losses)
        clipped = gradients.clipped_sum(losses, 0.1)
    weight = model.weight.detach().requires_grad_(True)
    own = []
    for patient in range(9):
        out = torch.tanh(nn.functional.linear(x[patient], weight, model.bias)).sum()
        own.append(torch.autograd.grad(out, weight)[0])
    torch.testing.assert_close(found["weight"].float(), torch.stack(own), rtol=1e-4, atol=1e-5)
    lengths = (found["weight"].flatten(1).square().sum(1) + found["bias"].square().sum(1)).sqrt()
    torch.testing.assert_close(clipped.lengths, lengths, rtol=1e-5, atol=1e-9)
