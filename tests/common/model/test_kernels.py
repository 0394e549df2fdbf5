"""The fused and the plain form of the sparse operations give the same values and gradients."""

from __future__ import annotations

import logging
import math
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmfed_common.model.edges import SharedEdges
from mmfed_common.model.kernels import Kernels, choose
from mmfed_common.model.kernels import choice as choice_module
from mmfed_common.topology import EdgeList

CPU = torch.device("cpu")
PLAIN, FUSED = choose("plain", CPU), choose("fused", CPU)


@st.composite
def graphs(draw: st.DrawFn) -> SharedEdges:
    """Bipartite graphs with isolated nodes on both sides, also without any edge."""
    sources, targets = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    pair = st.tuples(st.integers(0, sources - 1), st.integers(0, targets - 1))
    pairs = draw(st.lists(pair, max_size=15))
    tensor = torch.tensor(pairs, dtype=torch.int64).reshape(len(pairs), 2)
    return SharedEdges(EdgeList.build(tensor[:, 0], tensor[:, 1]), sources, targets)


def _gradients(run: object, inputs: list[Tensor]) -> list[Tensor]:
    assert callable(run)
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    out = run(*leaves)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)]


def assert_same(kernel: str, inputs: list[Tensor], *rest: object) -> None:
    results = []
    for form in (PLAIN, FUSED):
        operation = getattr(form, kernel)
        results.append(_gradients(lambda *leaves, op=operation: op(*leaves, *rest), inputs))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


SHAPES = [(1, 3), (4, 4)]


@settings(max_examples=60)
@given(graphs(), st.integers(0, 3), st.sampled_from(SHAPES), st.booleans(), st.integers(0, 2**16))
def test_attention(
    edges: SharedEdges, patients: int, shape: tuple[int, int], shared: bool, seed: int
) -> None:
    heads, channels = shape
    generator = torch.Generator().manual_seed(seed)
    inputs = [
        torch.randn(patients, edges.sources, heads * channels, generator=generator),
        2 * torch.randn(1 if shared else patients, heads, channels, generator=generator),
        4 * torch.randn(patients, edges.targets, heads, generator=generator),
    ]
    assert_same("attend", inputs, edges)


@settings(max_examples=60)
@given(graphs(), st.integers(0, 3), st.sampled_from(SHAPES), st.booleans(), st.integers(0, 2**16))
def test_attention_within_one_type(
    edges: SharedEdges, patients: int, shape: tuple[int, int], shared: bool, seed: int
) -> None:
    heads, channels = shape
    nodes = edges.targets
    keep = edges.source < nodes
    within = SharedEdges(
        EdgeList.build(edges.source[keep], edges.target[keep]), nodes, nodes, self_loops=True
    )
    generator = torch.Generator().manual_seed(seed)
    inputs = [
        torch.randn(patients, nodes, heads * channels, generator=generator),
        2 * torch.randn(1 if shared else patients, 2 * heads, channels, generator=generator),
    ]
    assert_same("attend", inputs, None, within)


@settings(max_examples=60)
@given(graphs(), st.integers(0, 3), st.integers(0, 2**16))
def test_pool(edges: SharedEdges, patients: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    standing = torch.randint(0, 3, (patients, edges.sources), generator=generator).float()
    values = torch.randn(patients, edges.sources, 5, generator=generator)
    assert_same("pool", [values], standing, edges)


@settings(max_examples=60)
@given(graphs(), st.integers(0, 3), st.booleans(), st.integers(0, 2**16))
def test_score(edges: SharedEdges, patients: int, shared: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(patients, edges.sources, 2, generator=generator)
    weights = torch.randn(1 if shared else patients, len(edges), 2, generator=generator)
    assert_same("score", [values, weights], edges)


@pytest.mark.parametrize("form", [PLAIN, FUSED], ids=["plain", "fused"])
def test_attention_is_stable_with_large_scores(form: Kernels) -> None:
    """Scores 500, 490 and -4000: the last target's only neighbour lies far below the largest score."""
    edges = SharedEdges(EdgeList.build(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1])), 3, 2)
    values = torch.tensor([[[500.0, 1.0, 0.0], [490.0, 2.0, 0.0], [-4000.0, 3.0, 0.0]]], requires_grad=True)
    attention = torch.tensor([[[1.0, 0.0, 0.0]]])
    out = form.attend(values, attention, torch.zeros(1, 2, 1), edges)
    near = 1 / (1 + math.exp(-10.0))
    assert out[0, :, 1].tolist() == pytest.approx([near + 2 * (1 - near), 3.0])
    out[0, :, 1].sum().backward()
    assert values.grad is not None
    slope = near * (1 - near)
    expected = torch.tensor([[[-slope, near, 0.0], [slope, 1 - near, 0.0], [0.0, 1.0, 0.0]]])
    torch.testing.assert_close(values.grad, expected, rtol=1e-4, atol=1e-6)


def test_pool_by_hand() -> None:
    """Two linked of three present genes: the mean of the two; the third pathway has no present gene."""
    edges = SharedEdges(EdgeList.build(torch.tensor([0, 1, 2, 2, 3]), torch.tensor([0, 0, 0, 1, 2])), 4, 3)
    values = torch.tensor([[[1.0], [2.0], [6.0], [9.0]]])
    standing = torch.tensor([[2.0, 2.0, 1.0, 0.0]])
    assert FUSED.pool(values, standing, edges).flatten().tolist() == [1.5, 6.0, 0.0]


def test_same_bits_for_any_number_of_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(0, 50, (2, 400), generator=generator)
    edges = SharedEdges(EdgeList.build(pairs[0], pairs[1]), 50, 50)
    shapes = [(9, 50, 16), (1, 4, 4), (9, 50, 4)]
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(_gradients(lambda *leaves: FUSED.attend(*leaves, edges), inputs))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_attention() -> None:
    """What a GPU runs, compiled for the CPU; one compilation serves several relations."""
    compiled = choose("compiled", CPU)
    assert compiled.name == "compiled"
    generator = torch.Generator().manual_seed(0)
    for nodes, count in ((30, 90), (20, 50), (40, 10)):
        pairs = torch.randint(0, nodes, (2, count), generator=generator)
        edges = SharedEdges(EdgeList.build(pairs[0], pairs[1]), nodes, nodes, self_loops=True)
        inputs = [torch.randn(shape, generator=generator) for shape in ((3, nodes, 16), (1, 8, 4))]
        found = _gradients(lambda v, a, e=edges: compiled.attend(v, a, None, e), inputs)
        expected = _gradients(lambda v, a, e=edges: PLAIN.attend(v, a, None, e), inputs)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_choice() -> None:
    assert choose("auto", CPU).name == "fused"
    assert choose("plain", torch.device("cuda")).name == "plain"


def test_fall_back_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    choice_module._fused.cache_clear()
    choice_module._fall_back.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert choose("fused", torch.device("meta")).name == "plain"
        assert choose("fused", torch.device("meta")).name == "plain"
    assert [record.message.split(":")[0] for record in caplog.records] == ["MMF-607"]
