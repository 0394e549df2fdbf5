"""Compressed changes: as close as the type allows, and nothing that no site sends gets through."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmfed_common.arrays import UnexpectedArraysError, each_view, from_record, shapes_of, to_record
from mmfed_common.compression import (
    MOST_STEPS,
    STEPS,
    Compression,
    compressed,
    each_restored,
    restored,
    wire_shapes,
)

KINDS: tuple[Compression, ...] = get_args(Compression)
LOSSY = tuple(kind for kind in KINDS if kind != "none")
BITS = {"fp16": 16, "bf16": 16, "int8": 8}
RELATIVE = {"fp16": 2.0**-11, "bf16": 2.0**-8}
"""Half a unit in the last place of each type."""


def changes(seed: int = 0, scale: float = 1e-2) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"b.weight": (7, 5), "a.bias": (11,), "c": (), "d.empty": (0, 3)}
    return {name: scale * torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def zeros(like: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in like.items()}


@pytest.mark.parametrize("kind", LOSSY)
def test_what_arrives_is_as_close_as_the_type_allows(kind: Compression) -> None:
    for seed, scale in ((0, 1e-2), (1, 1e-4), (2, 10.0)):
        sent = changes(seed, scale)
        arrived = restored(compressed(sent, kind), zeros(sent), kind)
        for name, tensor in sent.items():
            error = (arrived[name] - tensor).abs()
            if kind == "int8":
                step = float(tensor.abs().max()) / MOST_STEPS if tensor.numel() else 0.0
                assert bool((error <= 0.5001 * step).all())
            else:
                least = 2.0**-25 if kind == "fp16" else 0.0  # float16 becomes coarse below 6e-5
                assert bool((error <= RELATIVE[kind] * tensor.abs() + least).all())


@pytest.mark.parametrize("kind", LOSSY)
def test_the_wire_holds_the_bits_that_it_says_and_reads_back(kind: Compression) -> None:
    whole = changes()
    sent = compressed(whole, kind)
    assert shapes_of(sent) == dict(wire_shapes(shapes_of(whole), kind))
    numbers = sum(tensor.numel() for tensor in whole.values())
    bits = sum(8 * t.numel() * t.element_size() for name, t in sent.items() if name != STEPS)
    assert bits == BITS[kind] * numbers
    record = to_record(sent)
    assert next(iter(record)) == min(sent)
    read = from_record(record, wire_shapes(shapes_of(whole), kind))
    assert all(torch.equal(read[name], sent[name]) for name in sent)


@pytest.mark.parametrize("kind", LOSSY)
def test_the_server_makes_the_very_weights_that_the_site_reckoned(kind: Compression) -> None:
    whole, start = changes(3), changes(4, 1.0)
    sent = compressed(whole, kind)
    arrays = each_view(to_record(sent), wire_shapes(shapes_of(whole), kind))
    at_server = dict(each_restored(arrays, start, kind))
    at_site = restored(sent, start, kind)
    assert at_server.keys() == at_site.keys() == whole.keys()
    for name, tensor in at_site.items():
        assert tensor.dtype == torch.float32
        assert at_server[name].tobytes() == tensor.numpy().tobytes()


def test_without_compression_arrays_pass_untouched() -> None:
    arrays = [("a", np.ones(3, dtype=np.float32))]
    assert next(iter(each_restored(arrays, {}, "none")))[1] is arrays[0][1]
    shapes = shapes_of(changes())
    assert wire_shapes(shapes, "none") is shapes


def test_bfloat16_is_that_of_torch() -> None:
    whole = {"a": torch.randn(1000, generator=torch.Generator().manual_seed(5))}
    arrived = restored(compressed(whole, "bf16"), zeros(whole), "bf16")["a"]
    assert torch.equal(arrived, whole["a"].to(torch.bfloat16).to(torch.float32))


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("int8", lambda sent: sent[STEPS].fill_(-1.0)),
        ("int8", lambda sent: sent[STEPS].fill_(float("nan"))),
        ("int8", lambda sent: sent[STEPS].fill_(3e38)),
        ("int8", lambda sent: sent["b.weight"].fill_(-128)),
        ("bf16", lambda sent: sent["b.weight"].fill_(0x7F80)),
        ("bf16", lambda sent: sent["b.weight"].fill_(0x7FC1)),
        ("fp16", lambda sent: sent["b.weight"].fill_(float("inf"))),
    ],
    ids=["step below 0", "step no number", "step too large", "-128 steps", "infinity", "no number", "half"],
)
def test_numbers_that_no_site_sends_are_refused(kind: Compression, spoil: object) -> None:
    whole = changes()
    sent = compressed(whole, kind)
    assert callable(spoil)
    spoil(sent)
    arrays = each_view(to_record(sent), wire_shapes(shapes_of(whole), kind), finite=False)
    with pytest.raises(UnexpectedArraysError):
        dict(each_restored(arrays, zeros(whole), kind))


def test_a_change_beyond_float16_becomes_what_no_gate_lets_out() -> None:
    sent = compressed({"a": torch.tensor([70000.0])}, "fp16")
    assert not bool(torch.isfinite(sent["a"]).all())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20))
def test_any_change_is_rounded_to_the_nearest_of_127_steps_each_way(values: list[float]) -> None:
    whole = {"a": torch.tensor(values, dtype=torch.float32)}
    sent = compressed(whole, "int8")
    assert bool((sent["a"].abs() <= MOST_STEPS).all())
    step = float(sent[STEPS][0])
    if step > 1e-30:
        error = (sent["a"].double() * step - whole["a"].double()).abs()
        assert bool((error <= 0.501 * step).all())
