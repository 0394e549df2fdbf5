"""A small study with every modality, task and relation, and patients with gaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mmfed_common.model import MultimodalNetwork, build_model
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study
from mmfed_common.topology import (
    ASSOCIATED_WITH,
    CODES_FOR,
    CORRELATES_WITH,
    PROTEIN_INTERACTS,
    REGULATES,
    EdgeList,
    Topology,
)

CONTENT: dict[str, Any] = {
    "study": {"name": "small", "seed": 11},
    "contract": {
        "clinical": {"age": {"kind": "number"}, "stage": {"kind": "ordinal", "values": ["I", "II", "III"]}},
        "gene": {"panel": ["a", "b", "c", "d", "e", "f"], "layers": {"expression": {}, "mutation": {}}},
        "protein": {"panel": ["p", "q", "r"]},
        "metabolite": {"panel": ["m", "n"]},
        "imaging": {"features": ["x", "y", "z"], "maximum_tiles": 4, "neighbours": 2},
        "relations": {"source": "site"},
        "survival": {"bins": [100.0, 250.0, 600.0], "horizons": [200.0]},
        "response": {},
        "toxicity": {"labels": ["t", "u"]},
    },
    "training": {"stages": [{"level": "full", "rounds": 1}]},
    "model": {"hidden": 16, "heads": 4},
}


def edge_list(*pairs: tuple[int, int]) -> EdgeList:
    source, target = ([pair[side] for pair in pairs] for side in (0, 1))
    return EdgeList.build(torch.tensor(source, dtype=torch.int64), torch.tensor(target, dtype=torch.int64))


TOPOLOGY = Topology(
    nodes={
        "clinical_feature": ("age", "stage"),
        "gene": ("a", "b", "c", "d", "e", "f"),
        "protein": ("p", "q", "r"),
        "metabolite": ("m", "n"),
        "imaging_feature": ("tile-0", "tile-1", "tile-2", "tile-3"),
    },
    channels={
        "clinical_feature": ("value",),
        "gene": ("expression", "mutation"),
        "protein": ("value",),
        "metabolite": ("value",),
        "imaging_feature": ("x", "y", "z"),
    },
    edges={
        REGULATES: edge_list((0, 1), (1, 0), (2, 0), (3, 2), (0, 3)),
        PROTEIN_INTERACTS: edge_list((0, 1), (1, 0)),
        CODES_FOR: edge_list((0, 0), (1, 0), (4, 2)),
        ASSOCIATED_WITH: edge_list((2, 0), (4, 0)),
        CORRELATES_WITH: edge_list((0, 1), (1, 0)),
    },
    pathways=("first", "second"),
    membership=edge_list((0, 0), (1, 0), (2, 0), (2, 1), (3, 1)),
)


def draw_patients(count: int, seed: int = 0, missing: float = 0.3) -> PatientTensors:
    """Random patients: single values, whole modalities and labels are missing."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    nodes: dict[str, NodeTensors] = {}
    for name, listed in TOPOLOGY.nodes.items():
        shape = (count, len(listed), len(TOPOLOGY.channels[name]))
        present = (uniform(*shape) > missing) & (uniform(count, 1, 1) > missing)
        neighbours = None
        if name == "imaging_feature":
            present = present.any(dim=2, keepdim=True).expand(shape).clone()
            neighbours = torch.tensor([[1, 2], [0, -1], [0, 3], [2, -1]]).expand(count, 4, 2).clone()
        values = torch.where(present, 2 * torch.randn(shape, generator=generator), 0.0)
        nodes[name] = NodeTensors(values, present, neighbours)
    outcomes = Outcomes(
        time_days=uniform(count) * 700,
        event=(uniform(count) > 0.5).float(),
        survival_known=uniform(count) > missing,
        response=torch.randint(-1, 3, (count,), generator=generator),
        toxicity=(uniform(count, 2) > 0.5).float(),
        toxicity_known=uniform(count, 2) > missing,
    )
    return PatientTensors(tuple(f"patient-{i}" for i in range(count)), nodes, outcomes)


def randomise(model: torch.nn.Module, seed: int = 5) -> None:
    """Move every weight away from where it starts, so that every gate is open."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture
def make_study() -> Callable[..., Study]:
    def make(model: dict[str, Any] | None = None, drop: tuple[str, ...] = ()) -> Study:
        contract = {key: value for key, value in CONTENT["contract"].items() if key not in drop}
        section = {**CONTENT["model"], **(model or {})}
        return Study.from_content({**CONTENT, "contract": contract, "model": section})

    return make


@pytest.fixture
def make_model(make_study: Callable[..., Study]) -> Callable[..., MultimodalNetwork]:
    def make(drop: tuple[str, ...] = (), opened: bool = True, **section: Any) -> MultimodalNetwork:
        study = make_study(section, drop)
        model = build_model(study, TOPOLOGY)
        if opened:
            randomise(model)
        return model

    return make


@pytest.fixture
def topology() -> Topology:
    return TOPOLOGY


@pytest.fixture
def make_patients() -> Callable[..., PatientTensors]:
    return draw_patients


@pytest.fixture
def scaling(make_study: Callable[..., Study]) -> Scaling:
    return Scaling.from_reference(make_study().contract, TOPOLOGY)
