"""Our dense graph attention equals PyG's ``GATConv`` on the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import GATConv

from mmfed_common.model.attention import CrossAttention, GraphAttention, NeighbourAttention
from mmfed_common.model.edges import SharedEdges
from mmfed_common.model.kernels import choose
from mmfed_common.topology import EdgeList

HIDDEN, HEADS = 16, 4
KERNELS = [choose(name, torch.device("cpu")) for name in ("plain", "fused")]


def _random_edges(sources: int, targets: int, count: int) -> EdgeList:
    generator = torch.Generator().manual_seed(2)
    source = torch.randint(0, sources, (count,), generator=generator)
    target = torch.randint(0, targets, (count,), generator=generator)
    return EdgeList.build(source, target, drop_self_loops=True)


def _nodes(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _copy(conv: GATConv, ours: GraphAttention | NeighbourAttention) -> None:
    with torch.no_grad():
        ours.project.weight.copy_(conv.lin.weight)
        ours.attention.weight.copy_(torch.cat([conv.att_src[0], conv.att_dst[0]]))


@pytest.mark.parametrize("kernels", KERNELS, ids=lambda k: k.name)
def test_within_one_type(kernels: object) -> None:
    edges = _random_edges(12, 12, 40)
    conv = GATConv(HIDDEN, HIDDEN // HEADS, HEADS, bias=False)
    ours = GraphAttention(HIDDEN, HEADS)
    _copy(conv, ours)
    nodes = _nodes(3, 12, HIDDEN)
    found = ours(nodes, SharedEdges(edges, 12, 12, self_loops=True), kernels)
    index = torch.stack([edges.source, edges.target])
    expected = torch.stack([conv(patient, index) for patient in nodes])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernels", KERNELS, ids=lambda k: k.name)
def test_between_two_types(kernels: object) -> None:
    """Both of PyG's target layer and target vector stand for one linear layer of ours."""
    edges = _random_edges(7, 5, 12)
    conv = GATConv((HIDDEN, HIDDEN), HIDDEN // HEADS, HEADS, add_self_loops=False, bias=False)
    ours = CrossAttention(HIDDEN, HEADS)
    with torch.no_grad():
        ours.project.weight.copy_(conv.lin_src.weight)
        ours.attention.weight.copy_(conv.att_src[0])
        by_head = conv.lin_dst.weight.view(HEADS, HIDDEN // HEADS, HIDDEN)
        ours.target_score.weight.copy_((conv.att_dst[0].unsqueeze(2) * by_head).sum(dim=1))
    sources, targets = _nodes(3, 7, HIDDEN), _nodes(3, 5, HIDDEN) + 1
    found = ours(sources, targets, SharedEdges(edges, 7, 5), kernels)
    index = torch.stack([edges.source, edges.target])
    expected = torch.stack([conv(pair, index) for pair in zip(sources, targets, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_over_own_neighbours() -> None:
    neighbours = torch.tensor([[[1, 2], [0, -1], [0, 1], [-1, -1]], [[3, -1], [2, 3], [1, -1], [0, 1]]])
    conv = GATConv(HIDDEN, HIDDEN // HEADS, HEADS, bias=False)
    ours = NeighbourAttention(HIDDEN, HEADS)
    _copy(conv, ours)
    nodes = _nodes(2, 4, HIDDEN)
    expected = []
    for patient, listed in zip(nodes, neighbours, strict=True):
        pairs = [(int(s), t) for t in range(4) for s in listed[t] if s >= 0]
        expected.append(conv(patient, torch.tensor(pairs).T))
    torch.testing.assert_close(ours(nodes, neighbours), torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_no_edges_gives_zero_between_types() -> None:
    ours = CrossAttention(HIDDEN, HEADS)
    nothing = SharedEdges(EdgeList.build(torch.zeros(0), torch.zeros(0)), 7, 5)
    for kernels in KERNELS:
        assert torch.equal(
            ours(_nodes(2, 7, HIDDEN), _nodes(2, 5, HIDDEN), nothing, kernels), torch.zeros(2, 5, HIDDEN)
        )
