"""A site's own heads: what moves, how far, who chooses, and that a held-out patient never does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.simulations.small_federation import gene_study, small_patients, small_study, small_topology

from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite, Personalised, personalise
from mmfed_client.training.personal import inner_folds, personal_study
from mmfed_common.heldout import HeldOutRule
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study

ROUND = {"training": {"stages": [{"level": "clinical", "rounds": 1}], "batch": 0}}


FULL = {
    "training": {
        "stages": [{"level": "clinical", "rounds": 1}, {"level": "full", "rounds": 1}],
        "batch": 0,
    }
}


def site_data(study: Study, size: int = 120) -> SiteData:
    topology = small_topology(study)
    patients = small_patients(study, topology, "a", size)
    held_out = study.held_out_rule.held_out(patients.patient_ids, "a")
    return SiteData("a", patients, held_out, topology)


def fitted(study: Study, data: SiteData, **weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Weights as they start, some replaced: the federated ones."""
    state = {name: tensor.clone() for name, tensor in LocalSite(study, data).model.state_dict().items()}
    return state | weights


def own(study: Study, data: SiteData, weights: dict[str, torch.Tensor]) -> Personalised:
    site = LocalSite(study, data)
    return personalise(
        study, data, weights, Scaling.from_moments(site.moments(), study.contract, site.topology)
    )


def right_for_these(study: Study, data: SiteData) -> dict[str, torch.Tensor]:
    """What many more patients of the same kind would give: the heads trained with hardly any pull."""
    many = study.with_changes(personal={"pulls": [0.001], "passes": 200, "learning_rate": 0.2})
    return own(many, data, fitted(study, data)).weights


def test_a_site_unlike_the_others_moves_its_head_and_gains() -> None:
    study = small_study(**ROUND)
    found = own(study, site_data(study), fitted(study, site_data(study)))
    assert found.pull == 10.0  # the start knows nothing at all: the weakest pull is best
    assert found.patients == int((~site_data(study).held_out).sum())
    gains = {trial.pull: trial.gain for trial in found.trials}
    assert gains[10.0] > gains[100.0] > 0


def test_a_site_like_the_others_keeps_the_federated_weights() -> None:
    study = small_study(**ROUND)
    weights = right_for_these(study, site_data(study))
    found = own(study, site_data(study), weights)
    assert found.pull is None
    assert len(found.trials) == 2
    assert all(torch.equal(found.weights[name], weights[name]) for name in weights)


def test_a_small_site_keeps_the_federated_weights_untried() -> None:
    study = small_study(**ROUND)
    data = site_data(study, 22)
    weights = fitted(study, data)
    found = own(study, data, weights)
    assert found.patients < study.personal.minimum_patients
    assert (found.pull, found.trials) == (None, ())
    assert all(torch.equal(found.weights[name], weights[name]) for name in weights)


def test_only_heads_move_and_never_the_tasks_weights() -> None:
    study = gene_study(**FULL)
    data = site_data(study)
    weights = fitted(study, data)
    found = own(study, data, weights)
    assert found.pull is not None
    moved = {name for name in weights if not torch.equal(found.weights[name], weights[name])}
    assert {name.split(".")[1] for name in moved} == {"baseline", "linear", "gates"}
    assert "clinical.log_variance.weight" in weights


def test_linear_leaves_the_gates_of_the_full_block() -> None:
    study = gene_study(**FULL, personal={"trainable": "linear"})
    data = site_data(study)
    weights = fitted(study, data)
    found = own(study, data, weights)
    moved = {name for name in weights if not torch.equal(found.weights[name], weights[name])}
    assert moved
    assert not any(name.startswith("full.") for name in moved)


def test_after_pre_training_what_only_that_needs_stays() -> None:
    stages = [
        {"level": "full", "rounds": 1, "objective": "masked_nodes"},
        {"level": "clinical", "rounds": 1},
        {"level": "full", "rounds": 1},
    ]
    study = gene_study(training={"stages": stages, "batch": 0})
    data = site_data(study)
    weights = fitted(study, data)
    decoders = [name for name in weights if "decoders" in name]
    assert decoders
    found = own(study, data, weights)
    assert found.pull is not None
    assert set(found.weights) == set(weights)
    assert all(torch.equal(found.weights[name], weights[name]) for name in decoders)


def test_a_strong_pull_holds_the_head_near_the_federated_one() -> None:
    def distance(pull: float) -> float:
        study = small_study(**ROUND, personal={"pulls": [pull]})
        weights = fitted(study, site_data(study))
        found = own(study, site_data(study), weights).weights
        return sum(float(((found[name] - weights[name]) ** 2).sum()) for name in weights)

    assert 0 < distance(1000.0) < distance(100.0) < distance(10.0)


def test_held_out_patients_decide_nothing() -> None:
    """Promise 10, from the outside: turn the outcomes of the held-out patients upside down."""
    study = small_study(**ROUND)
    data = site_data(study)
    outcomes = data.patients.outcomes
    apart = torch.from_numpy(data.held_out)
    other = replace(
        outcomes,
        event=torch.where(apart, 1 - outcomes.event, outcomes.event),
        time_days=torch.where(apart, 3000 - outcomes.time_days, outcomes.time_days),
    )
    changed = replace(data, patients=replace(data.patients, outcomes=other))
    first, second = (own(study, one, fitted(study, data)) for one in (data, changed))
    assert first.trials == second.trials
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)


def test_who_chooses_the_pull_does_not_train_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every set of patients that trains is watched: the whole fit part once, each inner fold left out."""
    study = small_study(**ROUND, personal={"pulls": [10.0], "passes": 1})
    data = site_data(study)
    trained: list[frozenset[str]] = []
    refuse = HeldOutRule.refuse_held_out

    def watch(marks: np.ndarray, ids: list[str]) -> None:  # type: ignore[type-arg]
        trained.append(frozenset(ids))
        refuse(marks, ids)

    weights = fitted(study, data)
    site = LocalSite(personal_study(study), data)
    parts = [frozenset(data.patients.patient_ids[i] for i in site.fit[p]) for p in inner_folds(study, site)]
    monkeypatch.setattr(HeldOutRule, "refuse_held_out", staticmethod(watch))
    scaling = Scaling.from_reference(study.contract, data.topology)
    personalise(study, data, weights, scaling)
    everybody = frozenset().union(*parts)
    assert trained[: len(parts)] == [everybody - part for part in parts]
    assert set(trained[len(parts) :]) <= {everybody}


def test_inner_folds_part_the_training_patients_whatever_their_order() -> None:
    study = small_study(**ROUND)
    data = site_data(study)
    site = LocalSite(study, data)
    parts = inner_folds(study, site)
    assert sorted(np.concatenate(parts)) == list(range(len(site.fit)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    turned = torch.arange(len(data.patients)).flip(0)
    other = replace(data, patients=data.patients.select(turned), held_out=data.held_out[::-1].copy())
    again = LocalSite(study, other)
    sets = [{data.patients.patient_ids[i] for i in site.fit[part]} for part in parts]
    assert sets == [
        {other.patients.patient_ids[i] for i in again.fit[part]} for part in inner_folds(study, again)
    ]


def test_the_same_bits_whatever_ran_before() -> None:
    study = gene_study(**FULL)
    data = site_data(study)
    first = own(study, data, fitted(study, data))
    torch.rand(11)
    second = own(study, data, fitted(study, data))
    assert first.trials == second.trials
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)


def test_of_a_private_study_the_own_head_is_trained_without_noise_and_with_everybody() -> None:
    study = small_study(
        privacy={"mode": "dp", "epsilon": 3.0, "delta": 1e-3, "trainable": "linear"},
        contract={
            "normalisation": "reference",
            "demographics": {"age": {"kind": "number", "reference_mean": 0, "reference_deviation": 1}},
            "clinical": {"marker": {"kind": "number", "reference_mean": 0, "reference_deviation": 1}},
            "survival": {"bins": [365.0, 730.0, 1460.0], "horizons": [365.0]},
        },
        training={"stages": [{"level": "clinical", "rounds": 1}], "optimiser": "sgd", "gradient_clip": 0},
    )
    changed = personal_study(study)
    assert changed.privacy.mode == "none"
    assert changed.privacy.trainable == "heads"
    assert changed.evaluation == study.evaluation
    data = site_data(study)
    found = personalise(study, data, fitted(study, data), None)
    assert found.pull is not None
