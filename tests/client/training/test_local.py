"""Local training: batches, the proximal term, what is trained, what is refused, equal bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.simulations.small_federation import gene_study, small_patients, small_study, small_topology

from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite, train_round
from mmfed_client.training.local import batches
from mmfed_client.training.losses import LossSum, loss_of
from mmfed_client.training.reproducible import same_bits
from mmfed_common.errors import MmfedError
from mmfed_common.patients import NodeTensors
from mmfed_common.scaling import Moments, Scaling
from mmfed_common.schedule import Place
from mmfed_common.study import Stage, Study


def local_site(study: Study, size: int = 24) -> LocalSite:
    topology = small_topology(study)
    patients = small_patients(study, topology, "a", size)
    held_out = study.held_out_rule.held_out(patients.patient_ids, "a")
    return LocalSite(study, SiteData("a", patients, held_out, topology))


def scaling_of(site: LocalSite) -> Scaling:
    return Scaling.from_moments(site.moments(), site.study.contract, site.topology)


def trained(site: LocalSite, number: int = 1, mu: float = 0.0) -> dict[str, torch.Tensor]:
    weights = {name: tensor.clone() for name, tensor in site.model.state_dict().items()}
    place = Place.of(site.study.training, number)
    return train_round(site, weights, scaling_of(site), place, mu).trained


def test_every_training_patient_is_in_one_batch_of_each_epoch() -> None:
    site = local_site(small_study())
    seen = list(batches(site, 1, 0))
    assert sorted(np.concatenate(seen)) == sorted(site.fit)
    assert [len(batch) for batch in seen[:-1]] == [8] * (len(seen) - 1)
    assert not np.array_equal(np.concatenate(seen), np.concatenate(list(batches(site, 1, 1))))


def test_the_same_round_gives_the_same_bits_whatever_ran_before() -> None:
    first = trained(local_site(gene_study()), 4)
    torch.manual_seed(99)
    site = local_site(gene_study())
    start = {name: tensor.clone() for name, tensor in site.model.state_dict().items()}
    trained(site, 3)
    site.load(start)
    torch.rand(17)
    second = trained(site, 4)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_the_stages_blocks_are_trained() -> None:
    site = local_site(gene_study())
    start = {name: tensor.clone() for name, tensor in site.model.state_dict().items()}
    update = trained(site, 2)
    assert update
    assert {site.model.block_of(name) for name in update} == {"additive"}
    after = site.model.state_dict()
    assert all(torch.equal(after[name], start[name]) for name in start if name not in update)
    assert any(not torch.equal(update[name], start[name]) for name in update)


def test_the_proximal_term_holds_weights_near_the_global_ones() -> None:
    def distance(mu: float) -> float:
        site = local_site(small_study(training={"optimiser": "sgd", "local_epochs": 5}))
        start = {name: tensor.clone() for name, tensor in site.model.state_dict().items()}
        return sum(float(((t - start[n]) ** 2).sum()) for n, t in trained(site, 1, mu).items())

    assert distance(10.0) < distance(1.0) < distance(0.0)


def test_a_sparse_step_subtracts_the_sign_of_each_gate_and_nothing_else() -> None:
    """With plain gradient steps, ``sparsity · Σ|w|`` moves a gate by ``learning_rate · sparsity``."""

    def step(sparsity: float) -> tuple[LocalSite, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        stage = {"level": "additive", "rounds": 1, "trains": ["clinical", "additive"]}
        stage |= {"learning_rate": 0.5, "sparsity": sparsity}
        training = {"optimiser": "sgd", "batch": 0, "local_epochs": 1, "gradient_clip": None}
        site = local_site(gene_study(training=training | {"stages": [stage]}))
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in site.model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        start = {name: tensor.clone() for name, tensor in site.model.state_dict().items()}
        return site, start, trained(site)

    site, start, plain = step(0.0)
    _, _, sparse = step(0.02)
    for name, tensor in plain.items():
        pull = 0.5 * 0.02 * start[name].sign() if site.model.shrinks(name) else torch.zeros_like(tensor)
        torch.testing.assert_close(tensor - sparse[name], pull, rtol=1e-4, atol=1e-6)
    assert {site.model.shrinks(name) for name in plain} == {True, False}


def test_one_proximal_step_from_the_global_weights_is_a_plain_step() -> None:
    """The gradient of ``mu/2 ‖w − w_global‖²`` is 0 at ``w_global``."""
    study = small_study(training={"optimiser": "sgd", "local_epochs": 1, "batch": 0})
    plain, proximal = trained(local_site(study), 1, 0.0), trained(local_site(study), 1, 5.0)
    assert all(torch.equal(plain[name], proximal[name]) for name in plain)


def test_a_second_proximal_step_is_pulled_back_by_mu_times_the_distance() -> None:
    """SGD, two steps: w2 = w1 − lr·(g(w1) + mu·(w1 − w0)); by hand from the steps without the term."""
    one = small_study(training={"optimiser": "sgd", "local_epochs": 1, "batch": 0, "gradient_clip": None})
    two = small_study(training={"optimiser": "sgd", "local_epochs": 2, "batch": 0, "gradient_clip": None})
    rate, mu = one.training.stages[0].learning_rate, 3.0
    start = {n: t.clone() for n, t in local_site(one).model.state_dict().items()}
    first, plain = trained(local_site(one)), trained(local_site(two))
    pulled = trained(local_site(two), 1, mu)
    for name in first:
        expected = plain[name] - rate * mu * (first[name] - start[name])
        torch.testing.assert_close(pulled[name], expected, rtol=1e-5, atol=1e-7)


def test_a_held_out_patient_marked_as_training_is_refused() -> None:
    study = small_study()
    topology = small_topology(study)
    patients = small_patients(study, topology, "a", 24)
    nobody = np.zeros(24, dtype=np.bool_)
    site = LocalSite(study, SiteData("a", patients, nobody, topology))
    with pytest.raises(MmfedError, match="held out") as caught:
        trained_with_reference(site)
    assert caught.value.code == "MMF-505"
    with pytest.raises(MmfedError, match="held out"):
        site.moments()


def test_the_cohorts_own_folds_are_checked_again() -> None:
    study = small_study(evaluation={"rule": "fold", "fold": 1})
    topology = small_topology(study)
    patients = small_patients(study, topology, "a", 20)
    folds = tuple(n % 5 for n in range(20))
    right = study.held_out_rule.held_out(patients.patient_ids, "a", folds)
    trained_with_reference(LocalSite(study, SiteData("a", patients, right, topology, folds)))
    wrong = np.roll(right, 1)
    with pytest.raises(MmfedError, match="held out"):
        trained_with_reference(LocalSite(study, SiteData("a", patients, wrong, topology, folds)))


def trained_with_reference(site: LocalSite) -> None:
    scaling = Scaling.from_reference(site.study.contract, site.topology)
    train_round(site, site.model.state_dict(), scaling, Place.of(site.study.training, 1))


def test_a_loss_that_is_not_finite_has_its_code() -> None:
    site = local_site(small_study())
    node = site.patients.nodes["clinical_feature"]
    broken = NodeTensors(torch.full_like(node.values, float("inf")), node.present)
    site.patients = replace(site.patients, nodes={"clinical_feature": broken})
    with pytest.raises(MmfedError) as caught:
        trained_with_reference(site)
    assert caught.value.code == "MMF-604"


def test_early_stopping_patients_are_training_patients_that_do_not_train() -> None:
    site = local_site(small_study(training={"validation_fraction": 0.3}), 60)
    fit, validation, test = set(site.fit), set(site.validation), set(site.test)
    assert validation
    assert not fit & validation
    assert not (fit | validation) & test
    assert len(fit | validation | test) == 60


def test_moments_are_those_of_the_training_patients() -> None:
    site = local_site(small_study())
    index = torch.from_numpy(np.flatnonzero(~site.held_out))
    expected = Moments.of(site.patients.select(index)).to_arrays()
    found = site.moments().to_arrays()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        trained(local_site(small_study()))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_evaluation_leaves_out_what_only_a_few_patients_have() -> None:
    """With task weights made for it, the sum would be the loss of the one patient who has a response."""
    study = gene_study()
    site = local_site(study, 60)
    assert len(site.test) > 5
    outcomes = site.patients.outcomes
    outcomes.response[:] = -1
    outcomes.response[site.test[0]] = 1
    scaling, model = scaling_of(site), site.model
    stage = Stage(level="full", rounds=1)
    nobody = loss_of(site, model, scaling, stage, site.test, minimum_cell=2)
    somebody = loss_of(site, model, scaling, stage, site.test, minimum_cell=1)
    outcomes.response[site.test[0]] = 2
    assert loss_of(site, model, scaling, stage, site.test, minimum_cell=2) == nobody
    assert somebody != nobody


def test_an_evaluation_without_outcomes_leaves_out_features_that_only_a_few_patients_have() -> None:
    stage = Stage(level="full", rounds=1, objective="masked_nodes")
    study = gene_study(training={"stages": [stage.model_dump(mode="json")], "batch": 8})
    site = local_site(study, 60)
    gene = site.patients.nodes["gene"]
    gene.present[:, 0] = False
    gene.present[site.test[0], 0] = True
    scaling, model = scaling_of(site), site.model

    def loss(value: float, cell: int) -> LossSum:
        gene.values[site.test[0], 0] = value
        with same_bits(1):
            return loss_of(site, model, scaling, stage, site.test, minimum_cell=cell)

    assert loss(1.0, 2) == loss(50.0, 2)
    assert loss(1.0, 1) != loss(50.0, 1)
