"""Arrays of other machines are compared with what is expected before they are used."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st

from mmfed_common.arrays import UnexpectedArraysError, from_record, payload_bytes, shapes_of, to_record

EXPECTED = {"w": ((2, 3), torch.float32)}


def record_of(values: object) -> ArrayRecord:
    return ArrayRecord({"w": Array(np.asarray(values))})


@given(st.lists(st.integers(0, 4), max_size=3), st.sampled_from([torch.float32, torch.float64, torch.int64]))
def test_tensors_survive_the_way_there_and_back(shape: list[int], dtype: torch.dtype) -> None:
    tensors = {"b": torch.ones(shape, dtype=dtype), "a": torch.arange(3.0)}
    back = from_record(to_record(tensors), shapes_of(tensors))
    assert set(back) == {"a", "b"}
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert back["b"].dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64, torch.int8])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (5, 7), (2, 3, 4)])
def test_the_bytes_are_those_that_flower_makes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = torch.arange(int(np.prod(shape)), dtype=torch.float64).reshape(shape).to(dtype)
    assert to_record({"w": tensor})["w"] == Array(tensor.numpy())


def test_a_transposed_tensor_keeps_its_values() -> None:
    tensor = torch.arange(6.0).reshape(2, 3).T
    assert torch.equal(from_record(to_record({"w": tensor}), shapes_of({"w": tensor}))["w"], tensor)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((3, 2), np.float32), "shape"),
        (np.zeros((2, 3), np.float64), "type"),
        (np.full((2, 3), np.nan, np.float32), "not finite"),
        (np.full((2, 3), np.inf, np.float32), "not finite"),
        (np.zeros((3, 2), np.float32).T, "length"),
    ],
)
def test_other_arrays_are_refused_with_the_reason(values: object, said: str) -> None:
    with pytest.raises(UnexpectedArraysError, match=said):
        from_record(record_of(values), EXPECTED)


def test_names_must_be_those_expected() -> None:
    with pytest.raises(UnexpectedArraysError, match="1 arrays are missing and 1 are unknown"):
        from_record(ArrayRecord({"x": Array(np.zeros((2, 3), np.float32))}), EXPECTED)


def test_what_is_outside_the_bytes_is_not_believed() -> None:
    lying = Array("float32", (2, 3), "numpy.ndarray", Array(np.zeros(7)).data)
    with pytest.raises(UnexpectedArraysError, match="shape"):
        from_record(ArrayRecord({"w": lying}), EXPECTED)


@pytest.mark.parametrize("data", [b"", b"\x80\x04 not an array", b"\x93NUMPY\x01\x00\x04\x00{{{{"])
def test_bytes_that_are_no_array_are_refused(data: bytes) -> None:
    with pytest.raises(UnexpectedArraysError):
        from_record(ArrayRecord({"w": Array("float32", (2, 3), "numpy.ndarray", data)}), EXPECTED)


def test_a_header_that_claims_more_than_it_brings_is_refused_without_allocating_it() -> None:
    stream = BytesIO()
    shape = (10**12, 10**3)
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    huge = Array("float32", shape, "numpy.ndarray", stream.getvalue())
    with pytest.raises(UnexpectedArraysError, match="shape"):
        from_record(ArrayRecord({"w": huge}), EXPECTED)
    with pytest.raises(UnexpectedArraysError, match="length"):
        from_record(ArrayRecord({"w": huge}), {"w": (shape, torch.float32)})


def test_pickles_are_never_loaded() -> None:
    stream = BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UnexpectedArraysError, match="cannot be read"):
        from_record(
            ArrayRecord({"w": Array("float32", (1,), "numpy.ndarray", stream.getvalue())}),
            {"w": ((1,), torch.float32)},
        )


def test_bytes_are_counted_as_sent() -> None:
    assert payload_bytes(to_record({"w": torch.zeros(10)})) == 128 + 40
