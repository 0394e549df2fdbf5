"""A site's correlation relations against scipy and against the stated rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graph_cases import contract_of, patients_of, scaling_of, topology_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from mmfed_common.contract import Contract
from mmfed_common.graph import with_site_correlations
from mmfed_common.graph.correlations import spearman
from mmfed_common.patients import PatientTensors
from mmfed_common.topology import ASSOCIATED_WITH, CORRELATES_WITH, Relation, Topology


@given(st.integers(8, 30), st.integers(0, 999), st.booleans())
@settings(max_examples=25, deadline=None)
def test_equal_to_scipy_over_patients_who_have_both(patients: int, seed: int, ties: bool) -> None:
    g = np.random.default_rng(seed)
    a, b = g.normal(size=(patients, 4)), g.normal(size=(patients, 3))
    if ties:
        a, b = a.round(), b.round()
    a[:, 0] = 1.0
    has_a, has_b = g.random(a.shape) < 0.8, g.random(b.shape) < 0.8
    found = spearman(a, has_a, b, has_b)
    for i in range(4):
        for j in range(3):
            both = has_a[:, i] & has_b[:, j]
            x, y = a[both, i], b[both, j]
            if both.sum() < 10 or np.ptp(x) == 0 or np.ptp(y) == 0:
                assert np.isnan(found[i, j])
            else:
                assert found[i, j] == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def site_of(threshold: float, most_genes: int) -> Contract:
    return contract_of(relations={"source": "site", "threshold": threshold, "most_genes": most_genes})


def oracle(
    topology: Topology, patients: PatientTensors, contract: Contract
) -> dict[Relation, set[tuple[int, int]]]:
    """The rule, pair by pair."""
    clinical, gene = patients.nodes["clinical_feature"], patients.nodes["gene"]
    e = topology.channels["gene"].index("expression")

    def strength(x: torch.Tensor, has_x: torch.Tensor, feature: int) -> float:
        both = has_x & clinical.present[:, feature, 0]
        if both.sum() < 10:
            return 0.0
        return abs(round(float(spearmanr(x[both], clinical.values[both, feature, 0]).statistic), 12))

    rule, features = contract.relations, range(len(topology.nodes["clinical_feature"]))
    pairs = {
        (i, j)
        for i in features
        for j in features
        if i != j and strength(clinical.values[:, i, 0], clinical.present[:, i, 0], j) >= rule.threshold
    }
    chosen = set()
    for j in features:
        found = [
            (-strength(gene.values[:, i, e], gene.present[:, i, e], j), i)
            for i in range(gene.values.shape[1])
        ]
        chosen |= {(i, j) for s, i in sorted(found)[: rule.most_genes] if -s >= rule.threshold}
    return {CORRELATES_WITH: pairs, ASSOCIATED_WITH: chosen}


@pytest.mark.parametrize("seed", range(4))
def test_edges_follow_the_rule(seed: int) -> None:
    contract = site_of(threshold=0.15, most_genes=2)
    topology = topology_of(contract)
    patients = patients_of(contract, topology, 40, seed)
    found = with_site_correlations(topology, patients, scaling_of(contract, topology), contract)
    expected = oracle(topology, patients, contract)
    assert expected[CORRELATES_WITH] or expected[ASSOCIATED_WITH]
    for relation, pairs in expected.items():
        edges = found.edges[relation]
        assert set(zip(edges.source.tolist(), edges.target.tolist(), strict=True)) == pairs
    assert {r for r in found.edges if found.edges[r] is not topology.edges[r]} == set(expected)


def test_too_few_patients_give_no_edge() -> None:
    contract = site_of(threshold=0.01, most_genes=5)
    topology = topology_of(contract)
    patients = patients_of(contract, topology, 9)
    found = with_site_correlations(topology, patients, scaling_of(contract, topology), contract)
    assert len(found.edges[CORRELATES_WITH]) == len(found.edges[ASSOCIATED_WITH]) == 0


def test_a_study_that_does_not_ask_gets_its_topology_back() -> None:
    contract = contract_of()
    topology = topology_of(contract)
    patients = patients_of(contract, topology, 40)
    assert with_site_correlations(topology, patients, scaling_of(contract, topology), contract) is topology
