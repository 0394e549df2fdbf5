"""Rounds whose updates travel compressed: fewer bytes, nearly the same model, the same bits after crashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from flwr.app import Array, Message
from tests.server.faulty_federation import reference_contract, run_streamed
from tests.simulations.small_federation import gene_study, small_sites

from mmfed_common import messages as m
from mmfed_common.compression import STEPS, Compression
from mmfed_common.study import Study
from mmfed_server.plan import RoundReport
from mmfed_server.record.state import RunState
from mmfed_simulations.run import RunResult, run_study

LOSSY: tuple[Compression, ...] = tuple(kind for kind in get_args(Compression) if kind != "none")
LATE_UPDATE = "site-1"


def study(kind: str, **aggregation: Any) -> Study:
    stages = [
        {"level": "clinical", "rounds": 4, "learning_rate": 0.05},
        {"level": "full", "rounds": 4, "learning_rate": 0.005},
    ]
    training = {"stages": stages, "batch": 8, "local_epochs": 1}
    return gene_study(training=training, aggregation={"compression": kind, "minimum_sites": 2, **aggregation})


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return float(torch.stack([((one[n] - other[n]) ** 2).sum() for n in one]).sum().sqrt())


def finished(kind: str, folder: Path, **options: Any) -> RunResult:
    rule = study(kind)
    return run_study(rule, small_sites(rule), folder, **options)


@pytest.mark.parametrize("kind", LOSSY)
def test_fewer_bytes_travel_and_the_model_is_nearly_the_same(kind: str, tmp_path: Path) -> None:
    whole, small = finished("none", tmp_path / "none"), finished(kind, tmp_path / kind)
    moved = distance(whole.state, finished_start(tmp_path / "start"))
    assert 0 < distance(whole.state, small.state) < 0.15 * moved
    for one, other in zip(whole.sites, small.sites, strict=True):
        # what a header takes weighs much in so small a model
        assert other["bytes_up"] < 0.95 * one["bytes_up"]
        assert other["bytes_down"] == one["bytes_down"]


def finished_start(folder: Path) -> dict[str, torch.Tensor]:
    """The weights before the first round."""
    from tests.simulations.small_federation import small_topology

    from mmfed_common.model import build_model

    rule = study("none")
    return {n: t.detach() for n, t in build_model(rule, small_topology(rule)).state_dict().items()}


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedadam"])
def test_any_strategy_takes_compressed_updates(strategy: str, tmp_path: Path) -> None:
    rule = study("int8", strategy=strategy, proximal_mu=0.1 if strategy == "fedprox" else 0.0)
    result = run_study(rule, small_sites(rule), tmp_path / "run")
    losses = [entry["train_loss"] for entry in result.rounds]
    assert losses[-1] < losses[0]


class StopHereError(Exception):
    """Ends a run from within."""


@pytest.mark.parametrize("kind", LOSSY)
@pytest.mark.parametrize("stop", [1, 3, 6])
def test_a_run_that_was_cut_short_goes_on_to_the_same_bits(kind: str, stop: int, tmp_path: Path) -> None:
    rule = study(kind)
    expected = run_study(rule, small_sites(rule), tmp_path / "undisturbed")

    def end(report: RoundReport) -> None:
        if report.round == stop:
            raise StopHereError

    with pytest.raises(StopHereError):
        run_study(rule, small_sites(rule), tmp_path / "cut", progress=end)
    result = run_study(rule, small_sites(rule), tmp_path / "cut", resume=True)
    assert all(torch.equal(result.state[name], expected.state[name]) for name in expected.state)


@pytest.mark.parametrize("lost", ["the answer", "the server's memory of it"])
def test_a_round_that_is_asked_twice_gives_the_same_bits(lost: str, tmp_path: Path) -> None:
    """An answer that is lost is asked for again; one that was taken and forgotten by a crash as well."""
    rule = study("int8")
    sites = small_sites(rule)
    expected = run_streamed(rule, sites, tmp_path / "undisturbed")
    dropped: set[int] = set()

    def drop(site: str, request: Message, reply: Message) -> Message | None:
        number = int(request.content.config_records[m.CONFIG][m.ROUND])
        first = request.metadata.message_type == m.TRAIN and number not in dropped
        if site != LATE_UPDATE or not first or number not in (2, 3, 6):
            return reply
        dropped.add(number)
        return None

    every = study("int8", minimum_sites=3)
    sound = run_streamed(every, sites, tmp_path / "three")
    found = run_streamed(every, sites, tmp_path / "lossy", drop)
    assert dropped == {2, 3, 6}
    assert all(torch.equal(found.weights[name], sound.weights[name]) for name in sound.weights)
    assert all(torch.equal(sound.weights[name], expected.weights[name]) for name in sound.weights)


def test_worker_processes_give_the_same_bits(tmp_path: Path) -> None:
    one = finished("int8", tmp_path / "one")
    two = finished("int8", tmp_path / "two", workers=2)
    assert all(torch.equal(one.state[name], two.state[name]) for name in one.state)


def flip(record: str, change: Any) -> Any:
    """A site whose compressed update is changed on the way."""

    def spoil(site: str, request: Message, reply: Message) -> Message:
        if site == LATE_UPDATE and request.metadata.message_type == m.TRAIN:
            arrays = reply.content.array_records[m.ARRAYS]
            name = STEPS if record == STEPS else next(name for name in arrays if name != STEPS)
            arrays[name] = Array(change(arrays[name].numpy()))
        return reply

    return spoil


@pytest.mark.parametrize(
    ("kind", "record", "change", "code"),
    [
        ("int8", STEPS, lambda a: -a - 1.0, "MMF-408"),
        ("int8", STEPS, lambda a: a * np.float32(np.nan), "MMF-453"),
        ("int8", STEPS, lambda a: np.full_like(a, 3e38), "MMF-408"),
        ("int8", STEPS, lambda a: a[:-1], "MMF-452"),
        ("int8", STEPS, lambda a: (a + 1) * np.float32(1e6), "MMF-459"),
        ("int8", "", lambda a: np.full_like(a, -128), "MMF-408"),
        ("int8", "", lambda a: a.astype(np.float32), "MMF-452"),
        ("bf16", "", lambda a: np.full_like(a, 0x7FC0), "MMF-408"),
        ("bf16", "", lambda a: a.astype(np.uint16), "MMF-452"),
        ("fp16", "", lambda a: np.full_like(a, np.inf), "MMF-453"),
        ("fp16", "", lambda a: a.astype(np.float32), "MMF-452"),
    ],
)
def test_a_bad_compressed_update_is_refused_and_spoils_nothing(
    kind: str, record: str, change: Any, code: str, tmp_path: Path
) -> None:
    contract = {**gene_study().contract.model_dump(mode="json"), "normalisation": "reference"}
    rule = study(kind).with_changes(contract=contract)
    sites = small_sites(rule)
    state: RunState = run_streamed(rule, sites, tmp_path / "bad", flip(record, change))
    reasons = [str(entry["refused"].get(LATE_UPDATE, "")) for entry in state.history]
    assert all(reason.startswith(code) for reason in reasons), reasons
    others = [site for site in sites if site.name != LATE_UPDATE]
    expected = run_streamed(rule, others, tmp_path / "without")
    assert all(torch.equal(state.weights[name], expected.weights[name]) for name in expected.weights)


def test_it_goes_together_with_differential_privacy(tmp_path: Path) -> None:
    """Rounding comes after the noise; a run that was cut short ends with the same bits."""
    privacy = {"mode": "dp", "epsilon": 8.0, "delta": 1e-3, "clipping": 1.0}
    rule = study("int8").with_changes(contract=reference_contract(), privacy=privacy)
    expected = run_study(rule, small_sites(rule, (60, 60)), tmp_path / "undisturbed")

    def end(report: RoundReport) -> None:
        if report.round == 3:
            raise StopHereError

    with pytest.raises(StopHereError):
        run_study(rule, small_sites(rule, (60, 60)), tmp_path / "cut", progress=end)
    result = run_study(rule, small_sites(rule, (60, 60)), tmp_path / "cut", resume=True)
    assert all(torch.equal(result.state[name], expected.state[name]) for name in expected.state)
