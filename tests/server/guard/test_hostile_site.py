"""One of five sites sends something bad, of 30 kinds: the run ends as if that site had never been there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from tests.server.faulty_federation import reference_contract, run_streamed
from tests.simulations.small_federation import CLINICAL_STAGE, small_sites, small_study

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.study import Study
from mmfed_server.plan import RoundReport
from mmfed_server.record.state import RunState

BAD = "site-2"
Change = Callable[[RecordDict], None]


def study() -> Study:
    return small_study(evaluation={"every": 0, "rule": "none"}, contract=reference_contract())


def arrays(content: RecordDict, change: Callable[[str, np.ndarray[Any, Any]], Any]) -> None:
    record = content.array_records[m.ARRAYS]
    content[m.ARRAYS] = ArrayRecord({n: Array(np.asarray(change(n, a.numpy()))) for n, a in record.items()})


def every(change: Callable[[np.ndarray[Any, Any]], Any]) -> Change:
    return lambda content: arrays(content, lambda name, values: change(values))


def one(change: Callable[[np.ndarray[Any, Any]], Any]) -> Change:
    def spoil(content: RecordDict) -> None:
        first = min(content.array_records[m.ARRAYS])
        arrays(content, lambda name, values: change(values) if name == first else values)

    return spoil


def with_value(value: float) -> Change:
    def change(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        values = values.copy()
        values.reshape(-1)[-1] = value
        return values

    return one(change)


def names(change: Callable[[dict[str, Array]], object]) -> Change:
    def spoil(content: RecordDict) -> None:
        record = dict(content.array_records[m.ARRAYS])
        change(record)
        content[m.ARRAYS] = ArrayRecord(record)

    return spoil


def raw(change: Callable[[bytes], bytes]) -> Change:
    def spoil(content: RecordDict) -> None:
        record = dict(content.array_records[m.ARRAYS])
        first = min(record)
        old = record[first]
        record[first] = Array(old.dtype, tuple(old.shape), old.stype, change(old.data))
        content[m.ARRAYS] = ArrayRecord(record)

    return spoil


def metric(name: str, value: Any) -> Change:
    return lambda content: content.metric_records[m.METRICS].update({name: value})


def about(name: str, value: Any) -> Change:
    return lambda content: content.config_records[m.ABOUT].update({name: value})


def record(name: str, value: Any) -> Change:
    def spoil(content: RecordDict) -> None:
        if value is None:
            del content[name]
        else:
            content[name] = copy.deepcopy(value)

    return spoil


KINDS: dict[str, tuple[Change, str]] = {
    "NaN": (with_value(float("nan")), "MMF-453"),
    "infinity": (with_value(float("inf")), "MMF-453"),
    "minus infinity": (with_value(float("-inf")), "MMF-453"),
    "a name is missing": (names(lambda r: r.pop(min(r))), "MMF-451"),
    "a name is new": (names(lambda r: r.update(more=Array(np.zeros(2, np.float32)))), "MMF-451"),
    "a name is another": (names(lambda r: r.update({"other": r.pop(min(r))})), "MMF-451"),
    "a name is a path": (names(lambda r: r.update({"../../etc/passwd": r.pop(min(r))})), "MMF-451"),
    "no arrays": (names(lambda r: r.clear()), "MMF-451"),
    "another shape": (one(lambda v: np.zeros((9, 9), np.float32)), "MMF-452"),
    "a flat shape": (every(lambda v: np.append(v.reshape(-1), np.float32(0))), "MMF-452"),
    "float64": (every(lambda v: v.astype(np.float64)), "MMF-452"),
    "int32": (one(lambda v: v.astype(np.int32)), "MMF-452"),
    "truncated bytes": (raw(lambda data: data[:-3]), "MMF-450"),
    "more bytes": (raw(lambda data: data + b"\0" * 64), "MMF-450"),
    "no bytes": (raw(lambda data: b""), "MMF-450"),
    "a pickle": (raw(lambda data: b"\x80\x04cos\nsystem\n(S'true'\ntR."), "MMF-450"),
    "a header that lies": (raw(lambda data: data.replace(b"'shape': (", b"'shape': (9", 1)), "MMF-450"),
    "count 0": (metric(m.NUM_EXAMPLES, 0), "MMF-454"),
    "count -1": (metric(m.NUM_EXAMPLES, -1), "MMF-454"),
    "count 1e12": (metric(m.NUM_EXAMPLES, 10**12), "MMF-454"),
    "count is a float": (metric(m.NUM_EXAMPLES, 24.0), "MMF-454"),
    "count is another": (metric(m.NUM_EXAMPLES, 1), "MMF-454"),
    "loss is NaN": (metric(m.LOSS, float("nan")), "MMF-453"),
    "loss is a list": (metric(m.LOSS, [0.1, 0.2]), "MMF-453"),
    "a metric more": (metric("c_index", 0.9), "MMF-451"),
    "times 1000": (every(lambda v: v * np.float32(1000)), "MMF-459"),
    "huge": (every(lambda v: np.full_like(v, 3e38)), "MMF-459"),
    "stale round": (about(m.ROUND, 0), "MMF-456"),
    "a round to come": (about(m.ROUND, 99), "MMF-456"),
    "other study": (about(m.STUDY_HASH, "0" * 64), "MMF-455"),
    "other site": (about(m.SITE, "site-0"), "MMF-457"),
    "no about": (record(m.ABOUT, None), "MMF-451"),
    "a record more": (record("more", MetricRecord({"x": 1})), "MMF-451"),
    "about is metrics": (record(m.ABOUT, MetricRecord({"x": 1})), "MMF-451"),
    "arrays are a config": (record(m.ARRAYS, ConfigRecord({"x": "y"})), "MMF-451"),
}


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> RunState:
    sites = [data for data in small_sites(study(), (20, 24, 30, 22, 26)) if data.name != BAD]
    return run_streamed(study(), sites, tmp_path_factory.mktemp("without"))


def same_as(weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.allclose(weights[n], expected[n], rtol=0, atol=1e-6) for n in expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_update_is_refused_and_spoils_nothing(kind: str, without: RunState, tmp_path: Path) -> None:
    change, code = KINDS[kind]
    told: list[tuple[str, str]] = []
    praised: list[str] = []
    notices: list[object] = []

    def spoil(site: str, request: Message, reply: Message) -> Message:
        if site == BAD and request.metadata.message_type == m.TRAIN:
            notices.append(request.content.config_records[m.CONFIG].get(m.NOTICE))
            change(reply.content)
        return reply

    state = run_streamed(
        study(),
        small_sites(study(), (20, 24, 30, 22, 26)),
        tmp_path,
        spoil,
        on_refusal=lambda site, found, reason: told.append((site, found)),
        on_success=praised.append,
    )
    assert same_as(state.weights, without.weights)
    assert told == [(BAD, code)] * 3
    assert notices == [None, code, code]
    assert state.sites[BAD].last_refusal.startswith(code)
    assert state.sites[BAD].rounds == 0
    assert sorted(set(praised)) == ["site-0", "site-1", "site-3", "site-4"]


def test_an_update_sent_twice_is_refused_the_second_time(tmp_path: Path) -> None:
    """The hostile site writes the new round's number over its old answer."""
    kept: list[RecordDict] = []

    def spoil(site: str, request: Message, reply: Message) -> Message:
        if site == BAD and request.metadata.message_type == m.TRAIN:
            kept.append(copy.deepcopy(reply.content))
            number = request.content.config_records[m.CONFIG][m.ROUND]
            reply.content = RecordDict(
                {
                    m.ARRAYS: copy.deepcopy(kept[0].array_records[m.ARRAYS]),
                    m.METRICS: kept[0].metric_records[m.METRICS],
                    m.ABOUT: ConfigRecord({**kept[0].config_records[m.ABOUT], m.ROUND: number}),
                }
            )
        return reply

    state = run_streamed(study(), small_sites(study(), (20, 24, 30, 22, 26)), tmp_path, spoil)
    assert state.sites[BAD].rounds == 1
    assert state.sites[BAD].last_refusal.startswith("MMF-458")


def test_a_site_that_comes_by_another_sites_connection_is_refused(tmp_path: Path) -> None:
    def spoil(site: str, request: Message, reply: Message) -> Message:
        if site == BAD:
            reply.content.config_records[m.ABOUT][m.SITE] = "site-1"
        return reply

    told: list[tuple[str, str]] = []
    state = run_streamed(
        study(),
        small_sites(study(), (20, 24, 30, 22, 26)),
        tmp_path,
        spoil,
        on_refusal=lambda site, code, reason: told.append((site, code)),
    )
    assert state.sites["site-1"].rounds == 3
    assert set(told) == {(BAD, "MMF-457")}


def test_an_update_without_the_sites_seal_is_refused(without: RunState, tmp_path: Path) -> None:
    def seals(site: str, answer: Message) -> None:
        if site == BAD and m.LOSS in answer.content.metric_records[m.METRICS]:
            raise NetworkError("MMF-416", "the answer is not signed")

    sites = small_sites(study(), (20, 24, 30, 22, 26))
    state = run_streamed(study(), sites, tmp_path, seals=seals)
    assert same_as(state.weights, without.weights)
    assert state.sites[BAD].last_refusal.startswith("MMF-416")


def test_a_site_in_quarantine_is_not_asked_and_comes_back_when_it_is_lifted(tmp_path: Path) -> None:
    """Also not for its loss in the very round; one last word tells it why, whether it answers or not."""
    asked: list[tuple[str, int]] = []
    barred: dict[str, str] = {}

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        if site != BAD:
            return reply
        asked.append(
            (request.metadata.message_type, int(str(request.content.config_records[m.CONFIG][m.ROUND])))
        )
        if barred:
            return None
        if asked[-1] == (m.TRAIN, 1):
            KINDS["NaN"][0](reply.content)
        return reply

    def lift(report: RoundReport) -> None:
        if report.round == 3:
            assert asked == [(m.HELLO, 0), (m.TRAIN, 1), (m.HELLO, 0)]
            asked.clear()
            barred.clear()

    seen = small_study(
        training={"stages": [{**CLINICAL_STAGE, "rounds": 4}]},
        evaluation={"every": 1},
        contract=reference_contract(),
    )
    sites = small_sites(seen, (20, 24, 30, 22, 26))
    state = run_streamed(
        seen,
        sites,
        tmp_path,
        spoil,
        quarantined=lambda: barred,
        on_refusal=lambda site, code, reason: barred.update({site: code}),
        progress=lift,
    )
    assert asked == [(m.HELLO, 0), (m.TRAIN, 4), (m.EVALUATE_HELD_OUT, 4)]
    assert state.sites[BAD].rounds == 1
