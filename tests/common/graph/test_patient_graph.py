"""One patient as a heterogeneous graph says the same as the dense tensors."""

from __future__ import annotations

import networkx
import pytest
import torch
from graph_cases import contract_of, patients_of, scaling_of, topology_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch
from torch_geometric.utils import to_networkx

from mmfed_common.errors import ModelError
from mmfed_common.graph import PatientGraphBuilder, patient_gene_links, to_patients
from mmfed_common.patients import NODE_TYPES
from mmfed_common.topology import (
    ASSOCIATED_WITH,
    CODES_FOR,
    CORRELATES_WITH,
    HAS_RELATION,
    PROTEIN_INTERACTS,
    REGULATES,
    SPATIAL,
)

DESIGN_RELATIONS = {*HAS_RELATION.values(), CODES_FOR, REGULATES, PROTEIN_INTERACTS, SPATIAL}
DESIGN_RELATIONS |= {ASSOCIATED_WITH, CORRELATES_WITH}
STUDIES = [
    {},
    {"gene": None},
    {"protein": None, "metabolite": None},
    {"imaging": None},
    {"demographics": None, "clinical": None},
    {"gene": {"layers": {"expression": {}}, "edge_threshold": 0}},
]


@given(st.sampled_from(STUDIES), st.integers(1, 3), st.integers(0, 999), st.booleans())
@settings(max_examples=40, deadline=None)
def test_there_and_back(study: dict[str, object], count: int, seed: int, places: bool) -> None:
    contract = contract_of(**study)
    topology = topology_of(contract)
    scaling = scaling_of(contract, topology, seed)
    patients = patients_of(contract, topology, count, seed, places)
    builder = PatientGraphBuilder(contract, topology, scaling)
    graphs = [builder.build_patient_graph(patients.select(torch.tensor([i]))) for i in range(count)]
    back = to_patients(graphs, contract, topology, scaling)
    assert back.patient_ids == patients.patient_ids
    assert set(back.nodes) == set(patients.nodes)
    for name, node in patients.nodes.items():
        assert torch.equal(back.nodes[name].present, node.present)
        torch.testing.assert_close(back.nodes[name].values, node.values, atol=2e-6, rtol=1e-5)
        if node.neighbours is None:
            assert back.nodes[name].neighbours is None
        else:
            assert torch.equal(back.nodes[name].neighbours, node.neighbours)
    for field in patients.outcomes.__dataclass_fields__:
        assert torch.equal(getattr(back.outcomes, field), getattr(patients.outcomes, field))


@pytest.mark.parametrize("study", STUDIES)
def test_every_node_and_edge_type_is_always_there(study: dict[str, object]) -> None:
    contract = contract_of(**study)
    topology = topology_of(contract)
    builder = PatientGraphBuilder(contract, topology, scaling_of(contract, topology))
    graph = builder.build_patient_graph(patients_of(contract, topology, 1))
    assert set(graph.node_types) == {"patient", *NODE_TYPES}
    assert set(graph.edge_types) >= DESIGN_RELATIONS
    assert graph.validate()
    for name in NODE_TYPES:
        assert graph[name].num_nodes == (len(topology.nodes[name]) if name in topology.nodes else 0)


def test_edges_of_one_patient_equal_those_of_the_dense_form() -> None:
    contract = contract_of()
    topology = topology_of(contract)
    scaling = scaling_of(contract, topology)
    patients = patients_of(contract, topology, 6)
    builder = PatientGraphBuilder(contract, topology, scaling)
    linked = patient_gene_links(
        patients.nodes["gene"], scaling.apply("gene", patients.nodes["gene"]), topology.channels["gene"], 1.0
    )
    assert linked.any()
    assert not linked.all()
    for i in range(6):
        graph = builder.build_patient_graph(patients.select(torch.tensor([i])))
        assert graph[HAS_RELATION["gene"]].edge_index[1].tolist() == linked[i].nonzero().flatten().tolist()
        for name in ("protein", "clinical_feature", "metabolite", "imaging_feature"):
            expected = patients.nodes[name].present[i].any(dim=-1).nonzero().flatten().tolist()
            assert graph[HAS_RELATION[name]].edge_index[1].tolist() == expected
            assert not graph[HAS_RELATION[name]].edge_index[0].any()
        neighbours = patients.nodes["imaging_feature"].neighbours
        assert neighbours is not None
        spatial = {(int(s), t) for t in range(4) for s in neighbours[i, t] if s >= 0}
        assert set(map(tuple, graph[SPATIAL].edge_index.t().tolist())) == spatial


def test_the_graph_is_what_networkx_reads() -> None:
    contract = contract_of(imaging=None, metabolite=None)
    topology = topology_of(contract)
    builder = PatientGraphBuilder(contract, topology, scaling_of(contract, topology))
    graph = builder.build_patient_graph(patients_of(contract, topology, 1))
    read: networkx.MultiDiGraph = to_networkx(graph)
    assert read.number_of_nodes() == 1 + 4 + 3 + 3
    assert read.number_of_edges() == sum(graph[t].edge_index.shape[1] for t in graph.edge_types)
    kinds = {(read.nodes[a]["type"], r, read.nodes[b]["type"]) for a, b, r in read.edges(data="type")} - {
        None
    }
    assert {k[0] for k in kinds} <= {"patient", "gene", "protein", "clinical_feature"}


def test_graphs_of_a_study_can_be_batched() -> None:
    contract = contract_of()
    topology = topology_of(contract)
    builder = PatientGraphBuilder(contract, topology, scaling_of(contract, topology))
    patients = patients_of(contract, topology, 3)
    graphs = [builder.build_patient_graph(patients.select(torch.tensor([i]))) for i in range(3)]
    batch = Batch.from_data_list(graphs)
    assert batch["gene"].x.shape == (12, 3)
    assert batch["patient"].x.shape == (3, 1)
    assert batch[REGULATES].edge_index.shape == (2, 9)
    assert torch.equal(batch.time_days, patients.outcomes.time_days)


def test_more_than_one_patient_is_refused() -> None:
    contract = contract_of()
    topology = topology_of(contract)
    scaling = scaling_of(contract, topology)
    builder = PatientGraphBuilder(contract, topology, scaling)
    with pytest.raises(ModelError) as raised:
        builder.build_patient_graph(patients_of(contract, topology, 2))
    assert raised.value.code == "MMF-608"
    graph = builder.build_patient_graph(patients_of(contract, topology, 1))
    graph["gene"].x = graph["gene"].x[:2]
    for graphs in ([], [graph]):
        with pytest.raises(ModelError) as raised:
            to_patients(graphs, contract, topology, scaling)
        assert raised.value.code == "MMF-608"
