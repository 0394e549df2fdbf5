"""Standardisation: the sums over sites give exactly the pooled mean and deviation."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfed_common.contract import Contract
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.scaling import Moments, Scaling
from mmfed_common.topology import EdgeList, Topology

CONTRACT = Contract.model_validate(
    {
        "demographics": {"age": {"kind": "number", "reference_mean": 60.0, "reference_deviation": 10.0}},
        "clinical": {
            "grade": {"kind": "category", "values": ["g1", "g2", "g3"]},
            "sex": {"kind": "binary"},
        },
        "gene": {"panel": ["A", "B"], "layers": {"expression": {}, "mutation": {"standardise": False}}},
        "imaging": {"features": ["area", "count"], "maximum_tiles": 3},
        "survival": {"bins": [365, 2000]},
    }
)
NO_EDGES = EdgeList(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
TOPOLOGY = Topology(
    nodes={
        "clinical_feature": CONTRACT.clinical_features(),
        "gene": ("A", "B"),
        "imaging_feature": ("tile-0", "tile-1", "tile-2"),
    },
    channels={
        "clinical_feature": ("value",),
        "gene": ("expression", "mutation"),
        "imaging_feature": ("area", "count"),
    },
    edges={},
    pathways=(),
    membership=NO_EDGES,
)


def make_patients(n: int, seed: int) -> PatientTensors:
    generator = torch.Generator().manual_seed(seed)
    nodes = {}
    for name, names in TOPOLOGY.nodes.items():
        shape = (n, len(names), len(TOPOLOGY.channels[name]))
        present = torch.rand(shape, generator=generator) < 0.7
        values = torch.randn(shape, generator=generator) * 3 + 5
        nodes[name] = NodeTensors(torch.where(present, values, 0.0), present)
    zeros = torch.zeros(n)
    outcomes = Outcomes(
        zeros, zeros, zeros.bool(), zeros.long() - 1, torch.zeros(n, 0), torch.zeros(n, 0, dtype=torch.bool)
    )
    return PatientTensors(tuple(f"p{i}" for i in range(n)), nodes, outcomes)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(0, 1000))
def test_sites_together_equal_the_pool(sizes: list[int], seed: int) -> None:
    patients = make_patients(sum(sizes) + 5, seed)
    edges = torch.cumsum(torch.tensor([0, *sizes, 5]), 0).tolist()
    parts = [patients.select(torch.arange(a, b)) for a, b in pairwise(edges)]
    federated = Scaling.from_moments(Moments.add(Moments.of(p) for p in parts), CONTRACT, TOPOLOGY)
    pooled = Scaling.from_moments(Moments.of(patients), CONTRACT, TOPOLOGY)
    for name in TOPOLOGY.nodes:
        torch.testing.assert_close(federated.mean[name], pooled.mean[name])
        torch.testing.assert_close(federated.deviation[name], pooled.deviation[name])


def test_only_what_is_measured_on_a_scale_is_standardised() -> None:
    scaling = Scaling.from_moments(Moments.of(make_patients(50, 1)), CONTRACT, TOPOLOGY)
    names = TOPOLOGY.nodes["clinical_feature"]
    assert names == ("age", "grade=g2", "grade=g3", "sex")
    assert scaling.mean["clinical_feature"][0] != 0
    assert scaling.mean["clinical_feature"][1:].abs().sum() == 0
    assert (scaling.deviation["gene"][:, 1] == 1).all()
    assert (scaling.deviation["gene"][:, 0] != 1).all()


def test_standardised_values_have_mean_0_and_deviation_1_and_absent_stay_0() -> None:
    patients = make_patients(200, 2)
    scaling = Scaling.from_moments(Moments.of(patients), CONTRACT, TOPOLOGY)
    node = patients.nodes["gene"]
    scaled = scaling.apply("gene", node)[:, 0, 0]
    present = node.present[:, 0, 0]
    assert scaled[present].mean().abs() < 1e-5
    assert scaled[present].std(unbiased=False) == pytest.approx(1.0, abs=1e-4)
    assert (scaled[~present] == 0).all()


def test_tiles_share_one_scale() -> None:
    patients = make_patients(30, 3)
    scaling = Scaling.from_moments(Moments.of(patients), CONTRACT, TOPOLOGY)
    node = patients.nodes["imaging_feature"]
    assert scaling.mean["imaging_feature"].shape == (1, 2)
    expected = node.values[..., 0][node.present[..., 0]].mean()
    torch.testing.assert_close(scaling.mean["imaging_feature"][0, 0], expected)


def test_arrays_round_trip() -> None:
    moments = Moments.of(make_patients(9, 4))
    again = Moments.from_arrays(moments.to_arrays())
    assert again.to_arrays().keys() == moments.to_arrays().keys()
    assert all(torch.equal(v, again.to_arrays()[k]) for k, v in moments.to_arrays().items())


def test_reference_scaling_is_the_contracts() -> None:
    scaling = Scaling.from_reference(CONTRACT, TOPOLOGY)
    assert scaling.mean["clinical_feature"][0, 0] == 60.0
    assert scaling.deviation["clinical_feature"][0, 0] == 10.0
    assert scaling.mean["gene"].abs().sum() == 0
