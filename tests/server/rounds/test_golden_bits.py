"""Whole runs have the weights that they had when the server still held every update in memory.

The digests were taken from that implementation (commit 9acc41a). The sites' own arithmetic differs between
processors and builds of PyTorch; so a digest of their first updates goes with each, and where that one
differs there is nothing to compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from flwr.app import Message
from tests.server.faulty_federation import run, run_streamed
from tests.simulations.killed_run import study_for
from tests.simulations.small_federation import small_sites, small_study

from mmfed_common import messages as m
from mmfed_common.study import Study

GOLDEN = {
    "small fedavg": "0589b26fe279d84dfb5409dbae2010e36f5d7f4641d2124d71cf14d63bd2b99b",
    "small fedprox": "35b2b4e14471ec42c18b2000743dba9a9b8191cbd8c628fe62d08b70937568eb",
    "small fedadam": "039f53df0af0574a948f82d250a75867145a5d461eae87bdf4b094bd6af8ffcf",
    "staged fedavg": "d2ed30501ae60818379ac3209b0afc50142120bf4c946cd086311b5cd527c14c",
    "staged fedprox": "d2ed30501ae60818379ac3209b0afc50142120bf4c946cd086311b5cd527c14c",
    "staged fedadam": "b4c6e8966bbefed21a80257a67f1a16c30fbf4c0bfd9e630abee613fdd690e7f",
}
FIRST_UPDATES = {
    "small fedavg": "d582e4367a868f399004cf2c290e02e29fef657f22b93ba065e45653de5d64ea",
    "small fedprox": "f6e41daf6be1dceb2373656a4e3e51d8142001cf9968fe59b646726296e2aa16",
    "small fedadam": "d582e4367a868f399004cf2c290e02e29fef657f22b93ba065e45653de5d64ea",
    "staged fedavg": "47e69b6b3b173bbfcc76007e946a8943cdecead60f6d63b047b2ec1639da0b9f",
    "staged fedprox": "47e69b6b3b173bbfcc76007e946a8943cdecead60f6d63b047b2ec1639da0b9f",
    "staged fedadam": "47e69b6b3b173bbfcc76007e946a8943cdecead60f6d63b047b2ec1639da0b9f",
}


def study_named(name: str) -> Study:
    size, strategy = name.split()
    if size == "staged":
        return study_for(strategy)
    return small_study(aggregation={"strategy": strategy, "proximal_mu": 0.1})


def digest(parts: Mapping[str, bytes]) -> str:
    return hashlib.sha256(b"".join(key.encode() + parts[key] for key in sorted(parts))).hexdigest()


@pytest.mark.parametrize("runner", [run, run_streamed])
@pytest.mark.parametrize("name", GOLDEN)
def test_the_weights_have_the_bits_of_before(name: str, runner: object, tmp_path: Path) -> None:
    study = study_named(name)
    first: dict[str, bytes] = {}

    def note(site: str, request: Message, reply: Message) -> Message:
        if (
            request.metadata.message_type == m.TRAIN
            and request.content.config_records[m.CONFIG][m.ROUND] == 1
        ):
            arrays = reply.content.array_records[m.ARRAYS]
            first.update({f"{site} {key}": array.data for key, array in arrays.items()})
        return reply

    assert callable(runner)
    state = runner(study, small_sites(study), tmp_path, note)
    if digest(first) != FIRST_UPDATES[name]:
        pytest.skip("the sites' arithmetic differs on this machine")
    assert digest({key: tensor.numpy().tobytes() for key, tensor in state.weights.items()}) == GOLDEN[name]
