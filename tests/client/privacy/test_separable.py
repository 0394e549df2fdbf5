"""The removal test: our losses pass it, and what is not separable is found, whatever it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from tests.client.privacy.private_sites import (
    CountingSpender,
    plan_with,
    private_site,
    private_study,
    trained,
)
from tests.common.model.conftest import CONTENT, TOPOLOGY, draw_patients, randomise
from torch import Tensor, nn

from mmfed_client.privacy import removal_test
from mmfed_client.privacy.gradients import PatientGradients
from mmfed_client.privacy.separable import ROUNDING
from mmfed_common.errors import PrivacyError
from mmfed_common.model import build_model
from mmfed_common.patients import PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study
from mmfed_common.tasks import multitask, objectives

BATCHES = (200, pytest.param(1000, marks=pytest.mark.e2e))
"""Batches in all, over losses and heads."""


@dataclass(frozen=True)
class Rows:
    """Patients as rows of numbers, with times and events."""

    x: Tensor
    time: Tensor
    event: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def select(self, index: Tensor) -> Rows:
        return Rows(self.x[index], self.time[index], self.event[index])


def rows(seed: int = 0, patients: int = 64) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(patients, 5, generator=generator)
    return Rows(x, torch.rand(patients, generator=generator), (x[:, 0] > 0).float())


def risk(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Dropout(0.3), nn.Linear(8, 2))


def cox(model: nn.Module, batch: Rows) -> Tensor:
    """Negative partial log-likelihood, a term for each patient who died; everybody at risk stands in it."""
    score = model(batch.x)[:, 0]
    at_risk = batch.time[None, :] >= batch.time[:, None]
    return batch.event * (torch.logsumexp(score.masked_fill(~at_risk, -torch.inf), dim=1) - score)


def contrastive(model: nn.Module, batch: Rows) -> Tensor:
    """InfoNCE between two views of each patient, with the others as negatives."""
    here = nn.functional.normalize(model(batch.x), dim=1)
    there = nn.functional.normalize(model(batch.x.flip(1)), dim=1)
    return nn.functional.cross_entropy(here @ there.T / 0.1, torch.arange(len(batch)), reduction="none")


def ranking(model: nn.Module, batch: Rows) -> Tensor:
    score = model(batch.x)[:, 0]
    return torch.relu(1 - (score[:, None] - score[None, :])).mean(dim=1)


def centred(model: nn.Module, batch: Rows) -> Tensor:
    return model((batch.x - batch.x.mean(dim=0)) / batch.x.std(dim=0)).square().sum(dim=1)


def batch_statistics(model: nn.Module, batch: Rows) -> Tensor:
    """Batch normalisation without weights of its own, which a list of forbidden layers might miss."""
    return nn.functional.batch_norm(model(batch.x), None, None, training=True).square().sum(dim=1)


def mean(model: nn.Module, batch: Rows) -> Tensor:
    return model(batch.x).square().sum(dim=1).mean()


def neighbours(model: nn.Module, batch: Rows) -> Tensor:
    """Edges between patients: each takes a little of the next."""
    out = model(batch.x)
    return (out + 0.1 * out.roll(1, dims=0)).square().sum(dim=1)


def weighted_by_rarity(model: nn.Module, batch: Rows) -> Tensor:
    share = batch.event.mean().clamp(0.01, 0.99)
    weight = torch.where(batch.event > 0, 1 / share, 1 / (1 - share))
    return weight * model(batch.x).square().sum(dim=1)


@pytest.mark.parametrize(
    "loss", [cox, contrastive, ranking, centred, batch_statistics, mean, neighbours, weighted_by_rarity]
)
def test_what_is_not_separable_is_found(loss: Callable[[nn.Module, Rows], Tensor]) -> None:
    found = removal_test(risk(), loss, rows(), clipping=0.05, leave_out=range(0, 64, 9))
    assert not found.separable
    assert found.changed > 1e-2


def test_cox_moves_the_sum_by_more_than_the_clipping() -> None:
    found = removal_test(risk(), cox, rows(), clipping=0.05)
    assert found.moved > 0.05 * 1.05


@pytest.mark.parametrize(
    "loss",
    [
        lambda model, batch: model(batch.x).square().sum(dim=1),
        lambda model, batch: model(batch.x).square().sum(),
        lambda model, batch: nn.functional.cross_entropy(
            model(batch.x), batch.event.long(), reduction="none"
        ),
    ],
    ids=["for each patient", "their sum", "cross-entropy"],
)
def test_sums_over_patients_pass(loss: Callable[[nn.Module, Rows], Tensor]) -> None:
    found = removal_test(risk(), loss, rows(), clipping=0.05)
    assert found.separable
    assert 0.049 < found.moved <= 0.05 * (1 + ROUNDING)


def test_a_batch_norm_layer_is_refused_by_its_own_code() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
    with pytest.raises(PrivacyError) as caught:
        removal_test(model, lambda m, batch: m(batch.x).sum(dim=1), rows(), 1.0)
    assert caught.value.code == "MMF-302"


TASKS = (
    (),
    ("response", "toxicity"),
    ("survival", "toxicity"),
    ("survival", "response"),
    ("gene",),
)


@pytest.mark.parametrize("dropped", TASKS, ids=["all tasks", "survival", "response", "toxicity", "no genes"])
@pytest.mark.parametrize("batches", BATCHES)
def test_no_patient_moves_the_sum_by_more_than_the_clipping(dropped: tuple[str, ...], batches: int) -> None:
    """For every loss and head, over random batches, weights, sizes and clippings."""
    contract = {key: value for key, value in CONTENT["contract"].items() if key not in dropped}
    model_section = {"hidden": 8, "heads": 2, "layers": 1, "dropout": 0.0, "modality_dropout": 0.0}
    study = Study.from_content({**CONTENT, "contract": contract, "model": model_section})
    model = build_model(study, TOPOLOGY)
    scaling = Scaling.from_reference(study.contract, TOPOLOGY)
    names = tuple(name for name, _ in model.named_parameters())
    sizes = torch.Generator().manual_seed(1)
    worst = 0.0
    with PatientGradients(model, names).listening() as gradients:

        def total(patients: PatientTensors, clipping: float) -> Tensor:
            def losses() -> Tensor:
                return multitask.patient_losses(model, model(patients, scaling), patients.outcomes)

            return gradients.clipped_sum(losses, clipping).flat

        for number in range(batches // len(TASKS)):
            if number % 20 == 0:
                randomise(model, number)
            count = int(torch.randint(1, 33, (1,), generator=sizes))
            one = int(torch.randint(0, count, (1,), generator=sizes))
            clipping = float(10 ** (2 * torch.rand(1, generator=sizes) - 1.5))
            everybody = draw_patients(count, number)
            others = everybody.select(torch.tensor([i for i in range(count) if i != one], dtype=torch.int64))
            moved = float((total(everybody, clipping) - total(others, clipping)).norm())
            worst = max(worst, moved / clipping)
    assert 0.99 < worst <= 1 + ROUNDING


def test_a_site_refuses_to_train_what_is_not_separable(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmfed_client.privacy import separable

    def with_a_mean(*given: object) -> Tensor:
        return objectives.stage_losses(*given).mean()  # type: ignore[arg-type]

    monkeypatch.setattr(separable, "stage_losses", with_a_mean)
    site = private_site(private_study())
    spender = CountingSpender(plan_with(site, 1.0))
    with pytest.raises(PrivacyError) as caught:
        trained(site, spender)
    assert caught.value.code == "MMF-303"
    assert not spender.steps


STAGES = {
    "masked_nodes": [{"level": "full", "rounds": 1, "objective": "masked_nodes"}],
    "contrastive": [{"level": "full", "rounds": 1, "objective": "contrastive"}],
}


def test_filling_in_hidden_values_is_allowed_under_differential_privacy() -> None:
    study = private_study(training={"stages": STAGES["masked_nodes"], "batch": 8, "local_epochs": 1})
    site = private_site(study)
    update = trained(site, CountingSpender(plan_with(site, 1.0)), 1)
    assert {name.split(".")[1] for name in update.trained} >= {"decoders", "embeddings", "fusion"}
    assert "full.gates.survival.weight" not in update.trained
    assert all(bool(tensor.isfinite().all()) for tensor in update.trained.values())


def test_telling_patients_apart_is_found_by_the_removal_test() -> None:
    """Even if the rule that refuses such a study were lost."""
    content = {**CONTENT, "training": {"stages": STAGES["contrastive"]}}
    study = Study.from_content(content)
    model = build_model(study, TOPOLOGY)
    randomise(model)
    scaling = Scaling.from_reference(study.contract, TOPOLOGY)
    stage = study.training.stages[0]

    def losses(module: nn.Module, patients: PatientTensors) -> Tensor:
        torch.manual_seed(0)
        return objectives.stage_losses(module, patients, scaling, stage)  # type: ignore[arg-type]

    names = tuple(n for n, _ in model.named_parameters() if n.startswith("full.contrast."))
    found = removal_test(model, losses, draw_patients(12), 0.1, names, leave_out=(11,))
    assert not found.separable
