"""Private rounds: what they compute, what they pay, and that the same goes in and comes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.client.privacy.private_sites import (
    CountingSpender,
    flat,
    plan_with,
    private_site,
    private_study,
    start_of,
    trained,
)

from mmfed_client import app
from mmfed_client.gate import Gate
from mmfed_client.privacy.gradients import MARGIN
from mmfed_common.errors import MmfedError
from mmfed_common.patients import NodeTensors
from mmfed_common.scaling import Scaling
from mmfed_common.schedule import Place, trained_parameters
from mmfed_common.tasks.multitask import patient_losses

NEARLY_NO_NOISE = 1e-7
ONE_STEP = {"batch": 0, "optimiser": "sgd", "gradient_clip": None, "local_epochs": 1}
FULL = {"level": "full", "rounds": 2, "trains": ["clinical", "additive", "full"], "learning_rate": 1.0}
NO_CHANCE = {"dropout": 0.0, "modality_dropout": 0.0, "hidden": 8, "heads": 2}


def test_without_noise_a_step_is_the_mean_of_clipped_gradients() -> None:
    """By hand: every patient's gradient by autograd, one at a time, clipped, averaged over all."""
    clipping = 6.0
    study = private_study(
        model=NO_CHANCE, training={**ONE_STEP, "stages": [FULL]}, privacy={"clipping": clipping}
    )
    site = private_site(study)
    start = start_of(site)
    generator = torch.Generator().manual_seed(1)
    start = {name: t + 0.2 * torch.randn(t.shape, generator=generator) for name, t in start.items()}
    update = trained(site, CountingSpender(plan_with(site, NEARLY_NO_NOISE)), 1, weights=start)
    model = site.load(start).train()
    scaling = Scaling.from_reference(study.contract, site.topology)
    total = torch.zeros(flat(update.trained).shape, dtype=torch.float64)
    lengths = []
    for patient in site.fit:
        one = site.take(np.array([patient]))
        for parameter in model.parameters():
            parameter.requires_grad_(True)
            parameter.grad = None
        patient_losses(model, model(one, scaling), one.outcomes).sum().backward()
        own = flat({n: p.grad for n, p in model.named_parameters() if p.grad is not None}).double()
        lengths.append(float(own.norm()))
        total += own * min(1.0, clipping / (1 + MARGIN) / lengths[-1])
    assert min(lengths) < clipping < max(lengths)
    expected = flat(start).double() - total / len(site.fit)
    torch.testing.assert_close(flat(update.trained).double(), expected, rtol=1e-5, atol=1e-6)


def test_the_same_round_gives_the_same_bits_and_names_the_same_inputs() -> None:
    study = private_study()
    spenders = [CountingSpender(plan_with(private_site(study), 1.0)) for _ in range(2)]
    first = trained(private_site(study), spenders[0])
    torch.manual_seed(5)
    site = private_site(study)
    trained(site, CountingSpender(spenders[0].plan), 1)
    start = start_of(private_site(study))
    second = trained(site, spenders[1], weights=start)
    assert torch.equal(flat(first.trained), flat(second.trained))
    assert spenders[0] == spenders[1]
    assert not torch.equal(flat(first.trained), flat({n: start[n] for n in first.trained}))


def test_a_step_that_may_not_be_paid_is_not_made_and_a_repeated_round_is_what_it_would_have_been() -> None:
    study = private_study()
    site = private_site(study)
    start = start_of(site)
    stopped = CountingSpender(plan_with(site, 1.0), stop_at=2)
    with pytest.raises(InterruptedError):
        trained(site, stopped, weights=start)
    assert len(stopped.steps) == 2
    assert not stopped.done
    again, whole = CountingSpender(stopped.plan), CountingSpender(stopped.plan)
    resumed = trained(site, again, weights=start)
    undisturbed = trained(private_site(study), whole, weights=start)
    assert torch.equal(flat(resumed.trained), flat(undisturbed.trained))
    assert again.steps[:2] == stopped.steps


def changed_patient(site: object) -> None:
    node = site.patients.nodes["gene"]  # type: ignore[attr-defined]
    values = node.values.clone()
    values[site.fit[0], 0, 0] += 1.0  # type: ignore[attr-defined]
    nodes = {**site.patients.nodes, "gene": NodeTensors(values, node.present)}  # type: ignore[attr-defined]
    site.patients = replace(site.patients, nodes=nodes)  # type: ignore[attr-defined]


@pytest.mark.parametrize("change", ["weights", "patients", "noise", "secret", "round"])
def test_whatever_goes_in_otherwise_has_other_inputs_and_other_noise(change: str) -> None:
    """With very much noise an update is its noise; equal noise would mean an equal update."""
    study = private_study(training={**ONE_STEP, "stages": [FULL]})
    site, start = private_site(study), start_of(private_site(study))
    usual, other = CountingSpender(plan_with(site, 1000.0)), CountingSpender(plan_with(site, 1000.0))
    before = flat(trained(site, usual, 1, weights=start).trained) - flat(start)
    site, number, secret = private_site(study), 1, bytes(range(32))
    weights = dict(start)
    if change == "weights":
        weights["clinical.baseline.survival.weight"] = weights["clinical.baseline.survival.weight"] + 1e-3
    elif change == "patients":
        changed_patient(site)
    elif change == "noise":
        other.plan = plan_with(site, 1001.0)
    elif change == "secret":
        secret = bytes(32)
    else:
        number = 2
    after = flat(trained(site, other, number, secret, weights).trained) - flat(weights)
    assert {step[2] for step in usual.steps}.isdisjoint({step[2] for step in other.steps})
    both = torch.stack([before, after])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.25
    assert before.numel() > 300


@pytest.mark.parametrize("size", [8, 27, 60])
def test_every_size_of_site_trains_and_takes_the_planned_steps(size: int) -> None:
    study = private_study(training={"batch": 7, "local_epochs": 2})
    site = private_site(study, size)
    spender = CountingSpender(plan_with(site, 1.0))
    update = trained(site, spender)
    planned = 2 * -(-len(site.fit) // 7)
    assert [step for _, step, _ in spender.steps] == list(range(planned))
    assert spender.done == [(3, spender.steps[0][2], planned)]
    assert update.loss == 0.0
    assert update.patients == len(site.fit)


def test_an_empty_draw_is_a_step_of_noise_alone() -> None:
    """With one patient expected of 48, about a third of the draws are empty."""
    study = private_study(training={**ONE_STEP, "batch": 1, "stages": [FULL]})
    site = private_site(study)
    update = trained(site, CountingSpender(plan_with(site, 1.0)), 1)
    assert all(bool(tensor.isfinite().all()) for tensor in update.trained.values())
    nobody = private_site(study)
    sigma = 3.0
    plan = replace(plan_with(nobody, sigma), rate=1e-9, steps_of_round=1)
    start = start_of(nobody)
    noise = flat(trained(nobody, CountingSpender(plan), 1, weights=start).trained) - flat(start)
    deviation = sigma * study.privacy.clipping / (1e-9 * len(nobody.fit))
    assert float(noise.std()) == pytest.approx(deviation, rel=0.15)


def test_a_patient_whose_gradient_is_not_finite_adds_nothing() -> None:
    study = private_study(training={**ONE_STEP, "stages": [FULL]}, model=NO_CHANCE)
    site = private_site(study)
    node = site.patients.nodes["clinical_feature"]
    values = node.values.clone()
    values[site.fit[3]] = float("inf")
    nodes = {**site.patients.nodes, "clinical_feature": NodeTensors(values, node.present)}
    site.patients = replace(site.patients, nodes=nodes)
    update = trained(site, CountingSpender(plan_with(site, NEARLY_NO_NOISE)), 1)
    assert all(bool(tensor.isfinite().all()) for tensor in update.trained.values())


def test_what_is_not_trainable_stays() -> None:
    study = private_study(privacy={"trainable": "heads"})
    site = private_site(study)
    update = trained(site, CountingSpender(plan_with(site, 1.0)))
    names = trained_parameters(
        site.shapes, site.model.block_of, Place.of(study.training, 3).stage, study.privacy, ()
    )
    assert set(update.trained) == set(names)
    assert all(name.startswith("full.gates.") for name in names)


def test_pulls_come_after_the_noise_and_look_at_no_patient() -> None:
    stage = {**FULL, "sparsity": 0.5, "learning_rate": 0.1}
    study = private_study(training={**ONE_STEP, "stages": [stage]}, model=NO_CHANCE)
    plain = private_study(training={**ONE_STEP, "stages": [{**stage, "sparsity": 0.0}]}, model=NO_CHANCE)
    updates = []
    for each in (study, plain):
        site = private_site(each)
        start = start_of(site)
        spender = CountingSpender(plan_with(site, NEARLY_NO_NOISE))
        updates.append(trained(site, spender, 1, weights=start).trained)
    for name, pulled in updates[0].items():
        pull = 0.05 * start[name].sign() if site.model.shrinks(name) else torch.zeros_like(pulled)
        torch.testing.assert_close(updates[1][name] - pulled, pull, rtol=1e-3, atol=2e-6)


def test_held_out_patients_never_train_privately() -> None:
    study = private_study()
    site = private_site(study)
    site.held_out[site.fit[0]] = True
    spender = CountingSpender(plan_with(site, 1.0))
    with pytest.raises(MmfedError, match="held out") as caught:
        trained(site, spender)
    assert caught.value.code == "MMF-505"
    assert not spender.steps


def test_what_is_too_few_to_leave_is_not_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    study = private_study(aggregation={"minimum_patients": 50})
    site = private_site(study, 30)
    monkeypatch.setattr(app, "means_of", lambda *_: pytest.fail("somebody was about to pay"))
    scaling = Scaling.from_reference(study.contract, site.topology)
    place = Place.of(study.training, 1)
    with pytest.raises(MmfedError) as caught:
        app._update(site, start_of(site), scaling, place, 0.0, Gate.for_simulation(study, "a"))
    assert caught.value.code == "MMF-406"
