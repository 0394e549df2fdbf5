"""One full-batch SGD step at each site and Adam at the server is full-batch Adam on the pooled patients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.simulations.small_federation import gene_study, small_sites, small_study

from mmfed_client.site import SiteData
from mmfed_common.model import build_model
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.scaling import Moments, Scaling
from mmfed_common.study import Study
from mmfed_common.tasks.multitask import patient_losses
from mmfed_simulations.run import run_study

ROUNDS = 25
RATE, BETA_1, BETA_2, TAU = 0.05, 0.9, 0.99, 1e-6


def pooled_patients(sites: list[SiteData]) -> PatientTensors:
    parts = [data.training for data in sites]
    nodes = {
        name: NodeTensors(
            torch.cat([part.nodes[name].values for part in parts]),
            torch.cat([part.nodes[name].present for part in parts]),
        )
        for name in parts[0].nodes
    }
    fields = Outcomes.__dataclass_fields__
    outcomes = Outcomes(**{f: torch.cat([getattr(part.outcomes, f) for part in parts]) for f in fields})
    return PatientTensors(tuple(p for part in parts for p in part.patient_ids), nodes, outcomes)


def pooled_adam(study: Study, sites: list[SiteData]) -> dict[str, torch.Tensor]:
    """Adam as Kingma & Ba (2015) write it at the end of section 2, in double precision."""
    patients, topology = pooled_patients(sites), sites[0].topology
    scaling = Scaling.from_moments(Moments.of(patients), study.contract, topology)
    model = build_model(study, topology)
    stage = study.training.stages[0]
    trained = {n: p for n, p in model.named_parameters() if model.block_of(n) in stage.trained_blocks}
    first = {n: np.zeros(tuple(p.shape)) for n, p in trained.items()}
    second = {n: np.zeros(tuple(p.shape)) for n, p in trained.items()}
    for step in range(1, ROUNDS + 1):
        model.zero_grad()
        losses = patient_losses(model, model(patients, scaling, stage.level), patients.outcomes)
        losses.mean().backward()  # type: ignore[no-untyped-call]
        rate = RATE * np.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
        for name, parameter in trained.items():
            assert parameter.grad is not None
            gradient = parameter.grad.double().numpy()
            first[name] = BETA_1 * first[name] + (1 - BETA_1) * gradient
            second[name] = BETA_2 * second[name] + (1 - BETA_2) * gradient**2
            moved = parameter.detach().double().numpy() - rate * first[name] / (np.sqrt(second[name]) + TAU)
            parameter.data = torch.from_numpy(moved).float()
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("make_study", [small_study, gene_study])
def test_federated_adam_is_pooled_adam(make_study: Callable[..., Study], tmp_path: Path) -> None:
    stage = {"level": "clinical", "rounds": ROUNDS, "learning_rate": 1.0}
    study = make_study(
        training={
            "stages": [stage],
            "batch": 0,
            "local_epochs": 1,
            "optimiser": "sgd",
            "gradient_clip": None,
        },
        aggregation={
            "strategy": "fedadam",
            "server_learning_rate": RATE,
            "beta_1": BETA_1,
            "beta_2": BETA_2,
            "tau": TAU,
        },
        model={"hidden": 8, "heads": 2, "layers": 1, "dropout": 0.0, "modality_dropout": 0.0},
    )
    sites = small_sites(study, (15, 40, 27))
    start = build_model(study, sites[0].topology).state_dict()
    federated = run_study(study, sites, tmp_path / "out").state
    pooled = pooled_adam(study, sites)
    moved = max(float((pooled[name] - start[name]).abs().max()) for name in pooled)
    assert moved > 0.3
    for name in pooled:
        torch.testing.assert_close(federated[name], pooled[name], rtol=2e-4, atol=2e-5)
