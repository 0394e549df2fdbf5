"""A state comes back as it was written, and a damaged file is refused, not believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from mmfed_common.errors import StudyError
from mmfed_server.record.state import RunState
from mmfed_server.record.state_file import read_state, write_state

STATE = RunState(
    "ab" * 32,
    next_round=3,
    weights={"b": torch.arange(6.0).reshape(2, 3), "a/c": torch.tensor(0.5), "none": torch.empty(0, 4)},
    tail={"b": torch.full((2, 3), 1 / 3, dtype=torch.float64)},
    first_moment={"b": torch.full((2, 3), -1e-30)},
    scaling={"count": torch.tensor([1, 2]), "mean": torch.tensor([[0.1]], dtype=torch.float64)},
    history=[{"round": 2, "stage": "clinical"}],
)


def written(folder: Path) -> Path:
    path = folder / "state"
    with path.open("wb") as file:
        write_state(file, STATE)
    return path


def with_header(path: Path, change: Any) -> None:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def test_it_comes_back_bit_by_bit_and_is_a_safetensors_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    found = read_state(path)
    assert (found.study_hash, found.next_round, found.history) == ("ab" * 32, 3, STATE.history)
    known = load_file(path)
    for group in ("weights", "tail", "first_moment", "second_moment", "scaling", "best_weights"):
        wanted, given_back = getattr(STATE, group), getattr(found, group)
        assert set(given_back) == set(wanted)
        for name, tensor in wanted.items():
            assert given_back[name].dtype == tensor.dtype
            assert torch.equal(given_back[name], tensor)
            assert torch.equal(known[f"{group}/{name}"], tensor)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("__metadata__"),
        lambda header: header["weights/b"].update(dtype="BF16"),
        lambda header: header["weights/b"].update(shape=[3, 3]),
        lambda header: header["weights/b"].update(shape=[-2, -3]),
        lambda header: header["weights/b"].update(shape=[2.0, 3]),
        lambda header: header["weights/b"].update(data_offsets=[0, 24]),
        lambda header: header["weights/b"].update(data_offsets=[2**70, 2**70 + 24]),
        lambda header: header["weights/b"].pop("shape"),
        lambda header: header.update({"weights/b": 7}),
        lambda header: header.pop("weights/b"),
        lambda header: header.update({"strange/b": header.pop("weights/b")}),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, change: Any) -> None:
    path = written(tmp_path)
    with_header(path, change)
    with pytest.raises(StudyError) as caught:
        read_state(path)
    assert caught.value.code == "MMF-509"


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 1), more=st.binary(max_size=3))
def test_a_file_of_another_length_is_refused(
    tmp_path_factory: pytest.TempPathFactory, cut: float, more: bytes
) -> None:
    path = written(tmp_path_factory.mktemp("state"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole))] + more)
    if path.stat().st_size == len(whole):
        return
    with pytest.raises(StudyError) as caught:
        read_state(path)
    assert caught.value.code == "MMF-509"
