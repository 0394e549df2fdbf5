"""The mean that is taken from the disk has the bits of Flower's, and so has everything after it."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import mmfed_server.rounds.spool
import mmfed_server.rounds.strategy
from mmfed_common.arrays import from_record, shapes_of, to_record
from mmfed_common.study import Aggregation, Stage
from mmfed_server.rounds.spool import PIECE, SpooledUpdate, digest_of, mean_of, write_arrays
from mmfed_server.rounds.strategy import ChosenNodes, SiteStrategy, flower_strategy, update_content
from mmfed_simulations.backends.inprocess import FIRST_NODE, InProcessGrid

STAGE = Stage(level="clinical", rounds=9, learning_rate=0.1)
SHAPES = {"w": (7, 5), "bias": (), "v": (3,), "empty": (0, 2)}


def model(draw: np.random.Generator, scale: float = 1.0) -> dict[str, Tensor]:
    return {
        n: torch.from_numpy(np.asarray(scale * draw.standard_normal(s), np.float32))
        for n, s in SHAPES.items()
    }


def spooled(
    folder: Path, site: str, tensors: dict[str, Tensor], start: dict[str, Tensor], n: int
) -> SpooledUpdate:
    written = write_arrays(folder, ((n, tensors[n].numpy()) for n in sorted(tensors)), start)
    return SpooledUpdate(site, n, 0.1 * n, 1.0, 0, written.norm, written.digest, written.file)


@pytest.mark.parametrize("kind", ["fedavg", "fedprox", "fedadam"])
@given(
    patients=st.lists(st.integers(1, 10**6), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
    part=st.integers(1, 200),
    piece=st.integers(1, 40),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_three_rounds_from_the_disk_have_the_bits_of_flowers_own(
    kind: str,
    patients: list[int],
    seed: int,
    part: int,
    piece: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flower's strategies over all replies at once, against the mean from the disk in pieces of any size."""
    monkeypatch.setattr(mmfed_server.rounds.strategy, "PART_BYTES", part)
    monkeypatch.setattr(mmfed_server.rounds.spool, "PIECE", piece)
    draw = np.random.default_rng(seed)
    rule = Aggregation(strategy=kind)
    whole, parts = (SiteStrategy(flower_strategy(rule, STAGE)) for _ in range(2))
    grid = ChosenNodes(InProcessGrid(len(patients), lambda jobs, timeout: {}), [FIRST_NODE])
    weights = model(draw)
    for number in (1, 2, 3):
        updates = [
            {n: t + c for (n, t), c in zip(weights.items(), model(draw, 0.1).values(), strict=True)}
            for _ in patients
        ]
        for strategy in (whole, parts):
            (message,) = strategy.configure_train(number, to_record(weights), ConfigRecord({}), grid)
        replies = [
            Message(update_content(to_record(u), n, 0.1 * n), reply_to=message)
            for u, n in zip(updates, patients, strict=True)
        ]
        expected, metrics = whole.aggregate_train(number, replies)
        assert expected is not None
        assert metrics is not None
        files = [
            spooled(tmp_path, str(i), u, weights, n)
            for i, (u, n) in enumerate(zip(updates, patients, strict=True))
        ]
        mean = mean_of(files, shapes_of(weights))
        found = {name: torch.full_like(tensor, torch.nan) for name, tensor in weights.items()}
        for got in parts.aggregate_mean(number, mean, sum(patients), weights):
            got.of(found[got.name].numpy())[...] = got.values
        assert same_bits(found, from_record(expected, shapes_of(weights)))
        assert all(same_bits(a, b) for a, b in zip(whole.moments(), parts.moments(), strict=True))
        assert parts.mean_loss((0.1 * n, n) for n in patients) == metrics["loss"]
        for file in files:
            file.close()
        weights = {name: found[name] for name in weights}


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return {n: (t.dtype, t.numpy().tobytes()) for n, t in one.items()} == {
        n: (t.dtype, t.numpy().tobytes()) for n, t in other.items()
    }


def test_the_norm_is_that_of_the_difference_and_the_digest_that_of_the_arrays(tmp_path: Path) -> None:
    start = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(0.0)}
    written = write_arrays(
        tmp_path, [("a", np.float32([4.0, 6.0])), ("b", np.asarray(12.0, np.float32))], start
    )
    assert written.norm == 13.0
    assert written.digest == digest_of({"b": torch.tensor(12.0), "a": torch.tensor([4.0, 6.0])}, ["b", "a"])


def test_nothing_of_an_update_has_a_name_on_the_disk(tmp_path: Path) -> None:
    written = write_arrays(tmp_path, [("a", np.ones(1000, np.float32))], {"a": torch.zeros(1000)})
    assert list(tmp_path.iterdir()) == []
    written.file.close()


@pytest.mark.parametrize("sites", [3, 20])
def test_memory_does_not_grow_with_the_sites(sites: int, tmp_path: Path) -> None:
    """An array of 40 MB: the mean of a piece, the last one, a term and what is read, for any sites."""
    start = {"w": torch.zeros(10_000_000)}
    files = [spooled(tmp_path, str(n), start, start, 5) for n in range(sites)]
    tracemalloc.start()
    for piece in mean_of(files, shapes_of(start)):
        assert piece.values.size <= PIECE
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for file in files:
        file.close()
    assert peak < 5.5 * 4 * PIECE
