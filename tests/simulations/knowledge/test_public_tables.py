"""Packs from the public tables, against facts stated in their README and against networkx."""

from __future__ import annotations

from pathlib import Path

import networkx
import pandas as pd
import pytest

from mmfed_common.contract import Contract
from mmfed_common.graph import build_topology
from mmfed_common.knowledge import KnowledgePack, restrict
from mmfed_common.topology import CODES_FOR, PROTEIN_INTERACTS, REGULATES
from mmfed_simulations.knowledge import PackSettings, build_pack, choose_sources
from mmfed_simulations.knowledge.column_names import column_names

pytestmark = pytest.mark.shared_data
COHORTS = ("BLCA", "BRCA", "KIRC", "LUAD", "SKCM")


@pytest.fixture(scope="module")
def common_genes(shared_data: Path) -> frozenset[str]:
    tables = [shared_data / "tcga_multimodal" / cohort / "expression.parquet" for cohort in COHORTS]
    names = column_names(tables)
    assert names is not None
    return names - {"patient_id"}


@pytest.fixture(scope="module")
def hallmark(shared_data: Path, common_genes: frozenset[str]) -> KnowledgePack:
    chosen = choose_sources(shared_data / "knowledge", [])
    return build_pack(chosen, None, PackSettings(genes=common_genes, gene_edges="both", most_edges=None))


def test_counts_that_the_readme_states(hallmark: KnowledgePack, common_genes: frozenset[str]) -> None:
    assert len(common_genes) == 1548
    assert len(hallmark.genes) == 1548
    assert len(hallmark.proteins) == 264
    assert len(hallmark.pathways) == 50
    assert {p.name for p in hallmark.proteins if not p.genes} >= {"Annexin_I", "LBK1", "TRFC", "XPB1", "p38"}
    assert all(len(source.sha256) == 64 for source in hallmark.sources)
    assert {(s.name, s.licence) for s in hallmark.sources} >= {
        ("STRING", "CC BY 4.0"), ("HGNC", "CC0"), ("MSigDB hallmark", "CC BY 4.0"),
    }  # fmt: skip


def test_interactions_equal_those_of_the_cut_table(shared_data: Path, common_genes: frozenset[str]) -> None:
    """The whole network, cut by us to the known genes, is the table that was cut when the data was made."""
    folder = shared_data / "knowledge"
    settings = PackSettings(gene_edges="interactions", least_score=400, most_edges=None)
    chosen = choose_sources(folder, [], pathways=())
    assert "ppi_string_v12_full.csv.gz" in {source.path.name for source in chosen}
    pack = build_pack(chosen, None, settings)
    graph = networkx.Graph((p.source, p.target) for p in pack.relations[REGULATES])
    cut = pd.read_csv(folder / "ppi_string_v12.csv.gz", keep_default_na=False)
    expected = networkx.from_pandas_edgelist(cut, "a", "b")
    assert {frozenset(pair) for pair in graph.edges} == {frozenset(pair) for pair in expected.edges}
    assert graph.number_of_edges() == 16920, "the README's count"
    names = pd.read_csv(folder / "gene_protein_map.csv.gz", keep_default_na=False).set_index("gene")
    approved = set(names.loc[sorted(common_genes), "hgnc_symbol"])
    assert approved & set(graph) == {pack.symbols.resolve(gene) for gene in common_genes} & set(expected)
    scores = {p[:2]: p.weight for p in pack.relations[REGULATES]}
    spots = {("TP53", "MDM2"): 0.999, ("CDK4", "CCND1"): 0.999, ("KRAS", "RAF1"): 0.994}
    assert {pair: scores[pair] for pair in spots} == spots, "the README's spot checks"


def test_every_interaction_is_there_in_both_directions(hallmark: KnowledgePack) -> None:
    graph = networkx.DiGraph(p[:2] for p in hallmark.relations[PROTEIN_INTERACTS])
    assert graph.number_of_edges() > 1000
    assert networkx.overall_reciprocity(graph) == 1.0
    assert networkx.number_of_selfloops(graph) == 0


def test_the_topology_of_a_real_study(hallmark: KnowledgePack, shared_data: Path) -> None:
    proteins = column_names([shared_data / "tcga_multimodal" / "LUAD" / "rppa.parquet"])
    assert proteins is not None
    pack = restrict(hallmark, proteins=proteins)
    contract = Contract.model_validate(
        {
            "knowledge": {"file": "k.pack.gz", "sha256": pack.sha256},
            "gene": {"layers": {"expression": {}, "mutation": {}}},
            "protein": {},
            "survival": {"bins": [365, 2000]},
        }
    )
    topology = build_topology(contract, pack)
    assert len(topology.nodes["protein"]) == 223
    for relation in (REGULATES, PROTEIN_INTERACTS):
        assert len(topology.edges[relation]) == len(pack.relations[relation])
    assert len(topology.edges[CODES_FOR]) == sum(len(p.genes) for p in pack.proteins)
    assert len(topology.pathways) == 50
    assert int(topology.membership.source.max()) < 1548


def test_reactome_and_its_hierarchy(shared_data: Path, common_genes: frozenset[str]) -> None:
    chosen = choose_sources(shared_data / "knowledge", [], pathways=("reactome",))
    every = build_pack(chosen, None, PackSettings(genes=common_genes))
    lowest = build_pack(chosen, None, PackSettings(genes=common_genes, reactome_level="lowest"))
    assert set(lowest.pathways) < set(every.pathways)
    assert len(lowest.pathways) > 100
