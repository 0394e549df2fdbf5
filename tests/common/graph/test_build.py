"""The topology: nodes from panels, relations from the pack, checked on a graph of four genes."""

from __future__ import annotations

import pytest
from graph_cases import PACK, contract_of, topology_of

from mmfed_common.errors import ModelError
from mmfed_common.graph import build_topology
from mmfed_common.topology import (
    ASSOCIATED_WITH,
    CODES_FOR,
    CORRELATES_WITH,
    PROTEIN_INTERACTS,
    REGULATES,
    EdgeList,
    Relation,
    Topology,
)


def named(topology: Topology, relation: Relation) -> set[tuple[str, str]]:
    edges: EdgeList = topology.edges[relation]
    left, right = topology.nodes[relation[0]], topology.nodes[relation[2]]
    return {(left[a], right[b]) for a, b in zip(edges.source.tolist(), edges.target.tolist(), strict=True)}


def test_the_whole_pack_becomes_the_topology() -> None:
    topology = topology_of(contract_of())
    assert topology.nodes == {
        "clinical_feature": ("age", "stage=II", "stage=III"),
        "gene": ("AKT1", "EGFR", "MYC", "TP53"),
        "protein": ("Akt", "EGFR_pY1068", "p53"),
        "metabolite": ("citrate", "lactate"),
        "imaging_feature": ("tile-0", "tile-1", "tile-2", "tile-3"),
    }
    assert topology.channels["gene"] == ("expression", "cnv", "mutation")
    assert topology.channels["imaging_feature"] == ("area", "count")
    assert named(topology, REGULATES) == {("TP53", "MYC"), ("MYC", "TP53"), ("MYC", "EGFR")}
    assert named(topology, PROTEIN_INTERACTS) == {("Akt", "p53"), ("p53", "Akt")}
    assert named(topology, CODES_FOR) == {("AKT1", "Akt"), ("EGFR", "EGFR_pY1068"), ("TP53", "p53")}
    assert named(topology, ("gene", "produces", "metabolite")) == {("MYC", "lactate")}
    assert named(topology, CORRELATES_WITH) == named(topology, ASSOCIATED_WITH) == set()
    assert topology.pathways == ("APOPTOSIS",), "GROWTH has fewer than three genes"
    assert topology.membership.source.tolist() == [0, 2, 3]
    assert topology.membership.target.tolist() == [0, 0, 0]


def test_a_panel_keeps_its_own_order_and_names() -> None:
    gene = {"panel": ["MYC", "ERBB", "NOVEL", "TP53"], "layers": {"expression": {}}}
    topology = topology_of(contract_of(gene=gene, protein={"panel": ["p53", "Akt"]}, metabolite=None))
    assert topology.nodes["gene"] == ("MYC", "ERBB", "NOVEL", "TP53")
    assert named(topology, REGULATES) == {("TP53", "MYC"), ("MYC", "TP53"), ("MYC", "ERBB")}
    assert named(topology, CODES_FOR) == {("TP53", "p53")}
    assert named(topology, PROTEIN_INTERACTS) == {("Akt", "p53"), ("p53", "Akt")}
    assert topology.pathways == ()


def test_edges_are_sorted_by_target_and_then_by_source() -> None:
    edges = topology_of(contract_of()).edges[REGULATES]
    assert edges.source.tolist() == [2, 3, 2]
    assert edges.target.tolist() == [1, 2, 3]


def test_without_a_pack_there_are_panels_but_no_relations() -> None:
    gene = {"panel": ["MYC", "TP53"], "layers": {"expression": {}}}
    contract = contract_of(knowledge=None, gene=gene, protein=None, metabolite=None)
    topology = build_topology(contract, None)
    assert len(topology.edges[REGULATES]) == 0
    assert CODES_FOR not in topology.edges
    assert len(topology.membership) == 0


def test_a_study_declares_correlations_by_feature_or_by_column() -> None:
    relations = {
        "source": "study",
        "clinical_pairs": [["age", "stage"]],
        "gene_clinical_pairs": [["ERBB", "stage=II"], ["MYC", "age"]],
    }
    topology = topology_of(contract_of(relations=relations))
    both = {("age", "stage=II"), ("age", "stage=III")}
    assert named(topology, CORRELATES_WITH) == both | {(b, a) for a, b in both}
    assert named(topology, ASSOCIATED_WITH) == {("EGFR", "stage=II"), ("MYC", "age")}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gene": {"panel": ["MYC", "MYC"], "layers": {"expression": {}}}}, "'MYC' twice"),
        ({"gene": {"panel": ["EGFR", "ERBB"], "layers": {"expression": {}}}}, "both EGFR"),
        ({"gene": {"panel": [], "layers": {"expression": {}}}}, "no member"),
        ({"relations": {"source": "study", "clinical_pairs": [["age", "weight"]]}}, "'weight'"),
        ({"relations": {"source": "study", "gene_clinical_pairs": [["FOO", "age"]]}}, "'FOO'"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words) as raised:
        topology_of(contract_of(**changes))
    assert raised.value.code == "MMF-608"


def test_a_panel_from_knowledge_needs_the_pack() -> None:
    with pytest.raises(ModelError) as raised:
        build_topology(contract_of(), None)
    assert raised.value.code == "MMF-608"


def test_the_pack_is_not_changed_by_its_use() -> None:
    before = PACK.sha256
    topology_of(contract_of())
    assert (
        type(PACK)
        .assemble(
            PACK.genes,
            PACK.proteins,
            PACK.metabolites,
            PACK.relations,
            PACK.pathways,
            PACK.aliases,
            PACK.sources,
        )
        .sha256
        == before
    )
