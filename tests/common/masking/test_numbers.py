"""Fixed-point numbers and masks: exact sums to the bound that is promised, without overflow."""

from __future__ import annotations

import math
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfed_common.masking.fixed_point import BITS, MOST_PATIENTS, MOST_SITES, FixedPoint
from mmfed_common.masking.layout import HEAD, Layout
from mmfed_common.masking.rules import threshold_of
from mmfed_common.masking.stream import BLOCK, LEAST_SHARED, PIECE, Mask, add_masks
from mmfed_common.masking.wide import add_wide, add_wide_masks, decode_wide, encode_wide


@given(
    st.lists(st.tuples(st.floats(-2, 2, width=32), st.integers(1, 5000)), min_size=1, max_size=30),
    st.sampled_from([0.01, 1.0, 7.5]),
)
@settings(max_examples=200, deadline=None)
def test_a_mean_is_exact_to_half_a_step_a_site(told: list[tuple[float, int]], largest: float) -> None:
    numbers = FixedPoint(largest)
    total = np.zeros(1, np.int64)
    for value, patients in told:
        total += numbers.encode(np.array([value], np.float32), patients)
    count = sum(patients for _, patients in told)
    clipped = sum(float(np.clip(value, -largest, largest)) * patients for value, patients in told)
    bound = len(told) / (2 * count) * numbers.step
    assert abs(numbers.decode(total)[0] - clipped) / count <= bound * (1 + 1e-6) + 1e-15
    assert numbers.is_possible(total, count, len(told))


def test_ten_thousand_of_the_largest_sites_do_not_overflow() -> None:
    one = FixedPoint(1.0).encode(np.array([1.0]), MOST_PATIENTS)
    assert int(one[0]) * MOST_SITES < 2**63 - 1
    with pytest.raises(ValueError, match="overflow"):
        FixedPoint(1.0).encode(np.array([1.0]), MOST_PATIENTS + 1)


def test_what_is_beyond_the_bound_is_clipped_and_counted() -> None:
    numbers, values = FixedPoint(0.5), np.array([0.4, 0.6, -3.0, np.float32(0.5)])
    assert numbers.clipped(values) == 2
    assert numbers.decode(numbers.encode(values, 10)).tolist() == pytest.approx([4.0, 5.0, -5.0, 5.0])


def test_a_sum_with_masks_left_in_it_is_not_possible() -> None:
    numbers, total = FixedPoint(1.0), np.zeros(100, np.int64)
    add_masks(total, [Mask(secrets.token_bytes(32))])
    assert not numbers.is_possible(total, 10_000, 20)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
def test_a_mask_is_the_cipher_s_stream_and_comes_off_again(size: int) -> None:
    seed = secrets.token_bytes(32)
    start = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, size, dtype=np.int64)
    vector = start.copy()
    add_masks(vector, [Mask(seed)])
    counter = (2).to_bytes(16, "big")  # GCM with a nonce of zeros keeps 0 and 1 for itself
    stream = Cipher(algorithms.AES(seed), modes.CTR(counter)).encryptor().update(bytes(8 * size))
    assert np.array_equal(vector, start + np.frombuffer(stream, "<i8"))
    add_masks(vector, [Mask(seed, negative=True)])
    assert np.array_equal(vector, start)


@pytest.mark.parametrize("size", [1, LEAST_SHARED, PIECE - 1, PIECE, PIECE + BLOCK + 5])
def test_threads_share_masks_and_give_the_same_numbers(size: int) -> None:
    masks = [Mask(secrets.token_bytes(32), negative=place % 3 == 1) for place in range(5)]
    start = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, size, dtype=np.int64)
    alone = start.copy()
    for mask in masks:
        add_masks(alone, [mask])
    for threads in (1, 2, 3, 9):
        vector = start.copy()
        add_masks(vector, masks, threads=threads)
        assert np.array_equal(vector, alone)


def test_sites_of_one_process_may_add_masks_at_the_same_time() -> None:
    masks = [Mask(secrets.token_bytes(32)) for _ in range(6)]
    alone = np.zeros(LEAST_SHARED, np.int64)
    add_masks(alone, masks, threads=1)
    vectors = [np.zeros(LEAST_SHARED, np.int64) for _ in range(4)]
    with ThreadPoolExecutor(len(vectors)) as pool:
        list(pool.map(lambda vector: add_masks(vector, masks, threads=3), vectors))
    assert all(np.array_equal(vector, alone) for vector in vectors)


def test_the_layout_is_the_same_whatever_the_order_of_the_names() -> None:
    shapes = {"b": ((2, 3), torch.float32), "a": ((), torch.float32), "c": ((4,), torch.float32)}
    layout = Layout(shapes, FixedPoint(1.0))
    vector = layout.empty()
    assert vector.size == layout.size == HEAD + 11
    assert [(name, part.size) for name, part in layout.parts(vector)] == [("a", 1), ("b", 6), ("c", 4)]
    assert Layout(dict(reversed(shapes.items())), FixedPoint(1.0)).size == layout.size
    layout.write_head(vector, 30, 1.25)
    assert layout.patients(vector) == 30
    assert layout.mean_loss(vector) == pytest.approx(1.25, abs=1e-6)
    assert layout.is_possible(vector, 30, 1)
    assert not layout.is_possible(vector, 31, 1)
    vector[HEAD] = 31 * 2**BITS
    assert not layout.is_possible(vector, 30, 1)


@pytest.mark.parametrize(
    ("share", "peers", "threshold"),
    [(0.67, 3, 3), (0.6, 3, 2), (0.51, 3, 2), (0.51, 4, 3), (0.7, 10, 7), (1.0, 5, 5), (0.67, 50, 34)],
)
def test_the_threshold_is_the_share_and_more_than_half(share: float, peers: int, threshold: int) -> None:
    assert threshold_of(share, peers) == threshold
    assert 2 * threshold > peers


WHOLE = 2**128


def as_int(vector: np.ndarray[Any, Any]) -> int:
    return int.from_bytes(vector.astype("<i8").tobytes(), "little")


@given(st.integers(0, WHOLE - 1), st.integers(0, WHOLE - 1), st.booleans())
@settings(max_examples=300, deadline=None)
def test_wide_numbers_add_as_integers_modulo_two_to_the_128(one: int, two: int, negative: bool) -> None:
    first, second = (np.frombuffer(n.to_bytes(16, "little"), "<i8").astype(np.int64) for n in (one, two))
    add_wide(first, second, negative=negative)
    assert as_int(first) == (one - two if negative else one + two) % WHOLE


@pytest.mark.parametrize("edge", [0, 1, 2**64 - 1, 2**64, 2**127, WHOLE - 1, WHOLE - 2**64])
def test_carries_at_the_edges(edge: int) -> None:
    for other in (0, 1, 2**64 - 1, 2**64, WHOLE - 1):
        for negative in (False, True):
            first, second = (
                np.frombuffer(n.to_bytes(16, "little"), "<i8").astype(np.int64) for n in (edge, other)
            )
            add_wide(first, second, negative=negative)
            assert as_int(first) == (edge - other if negative else edge + other) % WHOLE


@given(st.lists(st.floats(-1e15, 1e15), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_wide_sums_are_exact_to_the_step(values: list[float]) -> None:
    total = encode_wide(np.zeros(1))
    for value in values:
        add_wide(total, encode_wide(np.array([value])))
    assert abs(decode_wide(total)[0] - math.fsum(values)) <= len(values) * 2**-56 + 1e-15 * abs(sum(values))


def test_wide_masks_come_off_and_what_is_too_large_is_an_error() -> None:
    start = encode_wide(np.array([1.5, -2.25, 0.0, 1e12]))
    vector, seed = start.copy(), secrets.token_bytes(32)
    add_wide_masks(vector, [Mask(seed)])
    assert not np.array_equal(vector, start)
    add_wide_masks(vector, [Mask(seed, negative=True)])
    assert decode_wide(vector).tolist() == [1.5, -2.25, 0.0, 1e12]
    for wrong in (np.nan, np.inf, 2.0**57):
        with pytest.raises(ValueError, match="larger unit"):
            encode_wide(np.array([wrong]))
