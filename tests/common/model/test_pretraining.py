"""Training without outcomes: what is hidden stays hidden, and ordinary studies do not notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.common.model.conftest import CONTENT, TOPOLOGY, draw_patients, randomise
from torch.nn import functional

from mmfed_common.errors import PrivacyError, StudyError
from mmfed_common.model import MultimodalNetwork, build_model
from mmfed_common.model.contrast import fewer_edges, info_nce
from mmfed_common.model.edges import SharedEdges
from mmfed_common.model.reconstruction import NodeMasking, hide, reconstruction_loss
from mmfed_common.patients import NodeTensors
from mmfed_common.scaling import Scaling
from mmfed_common.schedule import trained_parameters, used_parameters
from mmfed_common.study import Stage, Study
from mmfed_common.tasks.objectives import stage_losses
from mmfed_common.topology import REGULATES

OBJECTIVES = ("masked_nodes", "contrastive")


def study_with(*objectives: str, **sections: dict[str, Any]) -> Study:
    stages = [{"level": "full", "rounds": 1, "objective": name} for name in objectives]
    training = {"stages": [*stages, {"level": "full", "rounds": 1}]}
    return Study.from_content({**CONTENT, "training": training, **sections})


def opened(study: Study) -> MultimodalNetwork:
    model = build_model(study, TOPOLOGY)
    randomise(model)
    return model


@pytest.fixture
def reference() -> Scaling:
    return Scaling.from_reference(study_with().contract, TOPOLOGY)


def test_ordinary_studies_keep_their_weights_and_others_start_from_the_same() -> None:
    plain = build_model(study_with(), TOPOLOGY).state_dict()
    more = build_model(study_with(*OBJECTIVES), TOPOLOGY).state_dict()
    added = set(more) - set(plain)
    assert {name.split(".")[1] for name in added} == {"decoders", "contrast"}
    assert all(name.startswith("full.") for name in added)
    assert all(torch.equal(plain[name], more[name]) for name in plain)


@pytest.mark.parametrize("objective", ["outcomes", *OBJECTIVES])
def test_a_stage_trains_exactly_what_its_loss_depends_on(objective: str, reference: Scaling) -> None:
    """Otherwise a private step would add noise to weights that learn nothing."""
    study = study_with(*OBJECTIVES, contract={**CONTENT["contract"], "relations": {"source": "site"}})
    model = opened(study).eval()
    stage = Stage(level="full", rounds=1, objective=objective, trains=("full",))
    torch.manual_seed(3)
    stage_losses(model, draw_patients(24), reference, stage).sum().backward()
    moved = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    names = [name for name, _ in model.named_parameters()]
    trained = set(trained_parameters(names, model.block_of, stage, study.privacy, ()))
    assert trained == {name for name in moved if name.startswith("full.")} | _silent(trained)
    used = set(used_parameters(names, model.block_of, stage))
    assert trained <= used
    assert moved <= used


def _silent(trained: set[str]) -> set[str]:
    """Biases that a softmax cancels, and messages into nodes that nothing looks at afterwards."""
    return {n for n in trained if n.endswith((".key.bias", ".cross.query.bias")) or ".layers." in n}


def test_hidden_nodes_look_as_if_they_had_never_been_measured(reference: Scaling) -> None:
    patients = draw_patients(6)
    hidden = {n: torch.zeros(node.present.shape[:2], dtype=torch.bool) for n, node in patients.nodes.items()}
    hidden["gene"][:, 2] = True
    standardised = {name: reference.apply(name, node) for name, node in patients.nodes.items()}
    masked, values = hide(patients.nodes, standardised, hidden)
    assert not masked["gene"].present[:, 2].any()
    assert not values["gene"][:, 2].any()
    assert torch.equal(masked["gene"].present[:, 3], patients.nodes["gene"].present[:, 3])
    assert torch.equal(values["protein"], standardised["protein"])


def test_the_loss_is_the_mean_over_what_was_hidden_and_measured() -> None:
    generator = torch.Generator().manual_seed(2)
    told = {k: torch.randn(5, n, 2, generator=generator) for k, n in (("gene", 4), ("protein", 3))}
    truth = {k: 2 * torch.randn(v.shape, generator=generator) for k, v in told.items()}
    asked = {k: torch.rand(v.shape, generator=generator) < 0.4 for k, v in told.items()}
    asked["protein"][1] = False
    asked["gene"][2] = asked["protein"][2] = False
    found = reconstruction_loss(told, truth, asked)
    for patient in range(5):
        parts = [
            functional.huber_loss(told[k][patient][asked[k][patient]], truth[k][patient][asked[k][patient]])
            for k in told
            if asked[k][patient].any()
        ]
        expected = torch.stack(parts).mean() if parts else torch.tensor(0.0)
        torch.testing.assert_close(found[patient], expected)


def test_missing_values_are_not_asked_for(reference: Scaling) -> None:
    model = opened(study_with("masked_nodes")).eval()
    patients = draw_patients(8, missing=0.5)
    stage = Stage(level="full", rounds=1, objective="masked_nodes")

    def loss(nodes: dict[str, NodeTensors]) -> torch.Tensor:
        torch.manual_seed(1)
        changed = type(patients)(patients.patient_ids, nodes, patients.outcomes)
        return stage_losses(model, changed, reference, stage)

    before = loss(dict(patients.nodes))
    other = {
        n: NodeTensors(torch.where(t.present, t.values, 99.0), t.present, t.neighbours)
        for n, t in patients.nodes.items()
    }
    assert torch.equal(loss(other), before)
    assert bool((before > 0).any())


def test_masking_hides_its_share_and_evenly_where_chance_is_off() -> None:
    masking = NodeMasking(0.25)
    torch.manual_seed(0)
    share = masking(torch.ones(200, 100, 1)).float().mean()
    assert abs(float(share) - 0.25) < 0.01
    masking.alike = True
    assert masking(torch.ones(3, 8, 1))[1].tolist() == [False, False, False, True] * 2


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nobody_is_no_trouble_and_the_same_seed_gives_the_same_loss(
    objective: str, reference: Scaling
) -> None:
    model = opened(study_with(objective))
    stage = Stage(level="full", rounds=1, objective=objective)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(stage_losses(model, draw_patients(5), reference, stage))
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
    assert stage_losses(model, draw_patients(0), reference, stage).shape == (0,)


def test_info_nce_is_a_cross_entropy_over_the_patients_of_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = (functional.normalize(torch.randn(6, 4, generator=generator), dim=1) for _ in range(2))
    similar = torch.exp(one @ two.T / 0.5)
    expected = -0.5 * (
        torch.log(similar.diag() / similar.sum(dim=1)) + torch.log(similar.diag() / similar.sum(dim=0))
    )
    torch.testing.assert_close(info_nce(one, two, 0.5), expected)
    assert float(info_nce(one[:1], two[:1], 0.5)) == 0.0


def test_learning_to_tell_patients_apart_tells_them_apart(reference: Scaling) -> None:
    section = {**CONTENT["model"], "dropout": 0.0, "modality_dropout": 0.0}
    model = build_model(study_with("contrastive", model=section), TOPOLOGY)
    stage = Stage(level="full", rounds=1, objective="contrastive")
    patients = draw_patients(16, missing=0.1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    torch.manual_seed(0)
    history = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = stage_losses(model, patients, reference, stage).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        history.append(float(loss.detach()))
    assert sum(history[-5:]) < 0.7 * sum(history[:5])


def test_fewer_edges_leaves_whole_edges_out_and_self_loops_in() -> None:
    edges = SharedEdges(TOPOLOGY.edges[REGULATES], 6, 6, self_loops=True)
    torch.manual_seed(0)
    fewer = fewer_edges(edges, 0.99)
    assert [(s, t) for s, t in zip(fewer.source.tolist(), fewer.target.tolist(), strict=True)] == [
        (i, i) for i in range(6)
    ]
    assert fewer.pointer.tolist() == list(range(7))
    keep = torch.ones(len(edges), dtype=torch.bool)
    for name in ("source", "target", "pointer", "source_int32", "used"):
        assert torch.equal(getattr(edges.only(keep), name), getattr(edges, name))


def test_comparing_patients_is_refused_under_differential_privacy(
    make_study: Callable[..., Study],
) -> None:
    contract = {**CONTENT["contract"], "relations": {"source": "none"}, "normalisation": "reference"}
    privacy = {"mode": "dp", "epsilon": 1.0, "delta": 1e-3}
    with pytest.raises(PrivacyError) as caught:
        study_with("contrastive", contract=contract, privacy=privacy)
    assert caught.value.code == "MMF-365"
    assert study_with("masked_nodes", contract=contract, privacy=privacy).training.stages[0].label


@pytest.mark.parametrize("stage", [{"level": "additive"}, {"level": "full", "trains": ["clinical", "full"]}])
def test_training_without_outcomes_is_for_the_full_block_alone(stage: dict[str, Any]) -> None:
    training = {"stages": [{"rounds": 1, "objective": "masked_nodes", **stage}]}
    with pytest.raises(StudyError, match="level full") as caught:
        Study.from_content({**CONTENT, "training": training})
    assert caught.value.code == "MMF-501"
