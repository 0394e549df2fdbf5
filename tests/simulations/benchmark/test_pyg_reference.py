"""The dense form and PyG's batches of ``HeteroData`` give the same model output and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from mmfed_common.graph import build_topology
from mmfed_common.graph.patient_graph import PatientGraphBuilder, to_patients
from mmfed_common.knowledge import KnowledgePack, Pair, Protein
from mmfed_common.model import MultimodalNetwork, Predictions, build_model
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study
from mmfed_common.topology import PROTEIN_INTERACTS, REGULATES, Topology
from mmfed_simulations.benchmark.pyg_reference import PygNetwork

GENES = ("A", "B", "C", "D", "E", "F", "G")
PACK = KnowledgePack.assemble(
    GENES,
    [Protein("P", ("A", "B")), Protein("Q", ("C",)), Protein("R", ())],
    ("m", "n"),
    {
        REGULATES: [Pair(a, b, 1.0, "") for a, b in ("AB", "BA", "CA", "DC", "EC", "AD")],
        PROTEIN_INTERACTS: [Pair("P", "Q", 1.0, ""), Pair("Q", "P", 1.0, "")],
    },
    {"first": "ABC", "second": "CDEF"},
)
CONTENT: dict[str, Any] = {
    "study": {"name": "oracle", "seed": 3},
    "contract": {
        "clinical": {"age": {"kind": "number"}, "grade": {"kind": "number"}, "sex": {"kind": "binary"}},
        "gene": {"panel": GENES, "layers": {"expression": {}, "mutation": {"standardise": False}}},
        "protein": {"panel": ["P", "Q", "R"]},
        "metabolite": {"panel": ["m", "n"]},
        "imaging": {"features": ["x", "y"], "maximum_tiles": 4, "neighbours": 2},
        "relations": {
            "source": "study",
            "clinical_pairs": [["age", "grade"]],
            "gene_clinical_pairs": [["A", "grade"], ["D", "grade"]],
        },
        "survival": {"bins": [100.0, 300.0], "horizons": [200.0]},
        "response": {},
        "toxicity": {"labels": ["t"]},
    },
    "training": {"stages": [{"level": "full", "rounds": 1}]},
    "model": {"hidden": 16, "heads": 4},
}


def _patients(topology: Topology, count: int) -> PatientTensors:
    generator = torch.Generator().manual_seed(8)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    nodes: dict[str, NodeTensors] = {}
    for name, listed in topology.nodes.items():
        shape = (count, len(listed), len(topology.channels[name]))
        present = (uniform(*shape) > 0.3) & (uniform(count, 1, 1) > 0.3)
        neighbours = None
        if name == "imaging_feature":
            present = present.any(dim=2, keepdim=True).expand(shape).clone()
            neighbours = torch.tensor([[1, 3], [0, -1], [3, -1], [2, 0]]).expand(count, 4, 2).clone()
        values = 5 + 3 * torch.randn(shape, generator=generator)
        nodes[name] = NodeTensors(torch.where(present, values, 0.0), present, neighbours)
    outcomes = Outcomes(
        uniform(count) * 400,
        (uniform(count) > 0.5).float(),
        uniform(count) > 0.3,
        torch.randint(-1, 3, (count,), generator=generator),
        (uniform(count, 1) > 0.5).float(),
        uniform(count, 1) > 0.3,
    )
    return PatientTensors(tuple(f"p{i}" for i in range(count)), nodes, outcomes)


def _both(section: dict[str, Any]) -> tuple[MultimodalNetwork, PygNetwork, PatientTensors, Scaling, Batch]:
    study = Study.from_content({**CONTENT, "model": {**CONTENT["model"], **section}})
    topology = build_topology(study.contract, PACK)
    patients = _patients(topology, 7)
    scaling = Scaling(
        {n: torch.full(t.values.shape[1:], 5.0) for n, t in patients.nodes.items()},
        {n: torch.full(t.values.shape[1:], 3.0) for n, t in patients.nodes.items()},
    )
    model = build_model(study, topology).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    builder = PatientGraphBuilder(study.contract, topology, scaling)
    graphs = [builder.build_patient_graph(patients.select(torch.tensor([i]))) for i in range(len(patients))]
    back = to_patients(graphs, study.contract, topology, scaling)
    for name, node in patients.nodes.items():
        assert torch.equal(back.nodes[name].present, node.present)
    reference = PygNetwork(model, study.contract, topology).eval()
    return model, reference, back, scaling, Batch.from_data_list(graphs)


def _outputs(predictions: Predictions) -> list[Tensor]:
    return [getattr(predictions, f"{name}_logits") for name in ("hazard", "response", "toxicity")]


GAINS = {"pathway_gain": 0.1, "wide_gain": 1.0}


@pytest.mark.parametrize(
    "section",
    [{}, {"pathway_tokens": False}, {"fusion": "mean"}, {"layers": 0}, {"kernel": "plain"}, GAINS],
    ids=str,
)
def test_same_output(section: dict[str, Any]) -> None:
    model, reference, patients, scaling, batch = _both(section)
    for found, expected in zip(_outputs(model(patients, scaling)), _outputs(reference(batch)), strict=True):
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_same_gradients() -> None:
    """Every weight that both forms have receives the same gradient."""
    model, reference, patients, scaling, batch = _both({})
    sum(out.square().sum() for out in _outputs(model(patients, scaling))).backward()  # type: ignore[union-attr]
    sum(out.square().sum() for out in _outputs(reference(batch))).backward()  # type: ignore[union-attr]
    theirs = {name: p.grad for name, p in reference.named_parameters()}
    compared = 0
    for name, parameter in model.named_parameters():
        expected = theirs.get(name.removeprefix("full."))
        if expected is not None:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-4, msg=name)
            compared += 1
    conv = theirs["convolutions.0.gene__interacts_with__gene.lin.weight"]
    ours = model.get_parameter("full.layers.0.relations.gene__interacts_with__gene.project.weight").grad
    assert ours is not None
    torch.testing.assert_close(ours, conv, rtol=1e-4, atol=1e-4)
    assert compared > 40
