"""Kinds of bad update: what a broken, stale or hostile site sends, and the code with which it is refused.

Each changes the records of a good update in place. In a test within one process the guard sees them; between
processes they are signed first, so that they pass the seal and reach the guard as well.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from mmfed_common import messages as m

Change = Callable[[RecordDict], None]


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
"""Name → what is done to a good update, and the code of its refusal."""

WITHOUT_SEAL = ("no about", "about is metrics", "other site")
"""Kinds on which there is no seal, or another site's: where seals are looked at they are refused for that."""
