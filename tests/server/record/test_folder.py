"""The state file: whole or not there, and everything in it comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmfed_common.errors import MmfedError
from mmfed_server.record.events import EventLog
from mmfed_server.record.folder import StateFile
from mmfed_server.record.state import RunState, SiteTotals


def state() -> RunState:
    weights = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(0.5)}
    return RunState(
        "hash",
        4,
        weights,
        first_moment={"a": torch.ones(3)},
        second_moment={"a": torch.zeros(3)},
        scaling={"mean.gene": torch.ones(2)},
        best_weights=dict(weights),
        best_loss=0.25,
        waited=1,
        history=[{"round": 1, "train_loss": 0.1 + 0.2}],
        sites={"x": SiteTotals(patients=3, seconds=1.5)},
        events_length=77,
    )


def test_everything_comes_back(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    assert file.load() is None
    file.commit(state())
    found, expected = file.load(), state()
    assert found is not None
    for name, value in vars(expected).items():
        if isinstance(value, dict) and value and isinstance(next(iter(value.values())), torch.Tensor):
            back = getattr(found, name)
            assert set(back) == set(value)
            assert all(torch.equal(back[key], value[key]) for key in value)
        else:
            assert getattr(found, name) == value


def test_equal_states_are_equal_bytes(tmp_path: Path) -> None:
    one, two = StateFile(tmp_path / "1"), StateFile(tmp_path / "2")
    one.commit(state())
    two.commit(state())
    assert one.path.read_bytes() == two.path.read_bytes()


@pytest.mark.parametrize("keep", [0, 5, 200])
def test_a_damaged_state_has_its_code(keep: int, tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.commit(state())
    file.path.write_bytes(file.path.read_bytes()[:keep])
    with pytest.raises(MmfedError) as caught:
        file.load()
    assert caught.value.code == "MMF-509"


def test_a_half_written_successor_is_not_seen(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.commit(state())
    file.path.with_name(f"{file.path.name}.partial").write_bytes(b"half")
    found = file.load()
    assert found is not None
    assert found.next_round == 4


def test_the_diary_is_cut_back_to_the_commit(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.write("round", round=1)
    length = log.length
    log.write("round", round=2)
    log.close()
    again = EventLog(tmp_path / "events.jsonl")
    again.cut(length)
    again.write("round", round=3)
    again.close()
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [line.count('"round": 3') for line in lines] == [0, 1]
