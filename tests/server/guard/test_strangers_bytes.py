"""Whatever a site answers, the guard takes it or refuses it with a code; nothing else happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfed_common import messages as m
from mmfed_common.arrays import shapes_of, to_record
from mmfed_common.errors import NetworkError
from mmfed_server.guard import Expected, check_reply, each_array_in_place
from mmfed_server.rounds.exchange import request
from mmfed_server.rounds.spool import write_arrays
from mmfed_simulations.backends.inprocess import InProcessGrid

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1.0)}
EXPECTED = Expected("x", "hash", 3, (m.LOSS,), shapes_of(WEIGHTS), 12)
GUARD_CODES = {f"MMF-{number}" for number in range(450, 459)}
GOOD = {name: array.data for name, array in to_record(WEIGHTS).items()}

names = st.sampled_from([m.ARRAYS, m.METRICS, m.ABOUT, m.FROZEN, "more", "", "../x"])
keys = st.sampled_from([m.NUM_EXAMPLES, m.LOSS, m.STUDY_HASH, m.ROUND, m.SITE, "a", "b", "\0", "é"])
whole = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-1, 13))
numbers = st.one_of(whole, st.floats(allow_nan=True, allow_infinity=True), st.lists(st.floats(), max_size=3))
texts = st.one_of(st.text(max_size=8), st.sampled_from(["hash", "x"]))
values = st.one_of(whole, st.floats(), texts, st.booleans(), st.binary(max_size=8))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The bytes of a good array with some of them changed, cut or added; or any bytes at all."""
    data = bytearray(draw(st.sampled_from(list(GOOD.values()))))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    end = draw(st.one_of(st.none(), st.integers(0, len(data))))
    return draw(st.one_of(st.just(bytes(data[:end])), st.binary(max_size=200), st.just(bytes(data) * 2)))


shapes = st.lists(st.integers(-1, 2**40), max_size=3).map(tuple)
kinds = st.sampled_from(["float32", "float64", "object", "V8", ""])
arrays = st.builds(Array, kinds, shapes, st.sampled_from(["numpy.ndarray", "torch", ""]), damaged())
records = st.one_of(
    st.dictionaries(keys, arrays, max_size=3).map(ArrayRecord),
    st.dictionaries(keys, numbers, max_size=4).map(MetricRecord),
    st.dictionaries(keys, values, max_size=4).map(ConfigRecord),
)


def answer(content: dict[str, Any]) -> Message:
    InProcessGrid(1, lambda jobs, timeout: {})
    return Message(RecordDict(content), reply_to=request(m.TRAIN, 100, "hash", 3))


def good() -> dict[str, Any]:
    return {
        m.ARRAYS: to_record(WEIGHTS),
        m.METRICS: MetricRecord({m.NUM_EXAMPLES: 12, m.LOSS: 0.5}),
        m.ABOUT: ConfigRecord({m.STUDY_HASH: "hash", m.ROUND: 3, m.SITE: "x"}),
    }


def taken(content: dict[str, Any], folder: Path) -> bool:
    """Read an answer as a round does; tell whether it was taken. Any other end of it is a fault."""
    message = answer(content)
    try:
        check_reply(message, EXPECTED)
        write_arrays(folder, each_array_in_place(message, EXPECTED), WEIGHTS).file.close()
    except NetworkError as error:
        if error.code not in GUARD_CODES:
            raise
        return False
    return True


anything = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(content=st.dictionaries(names, records, max_size=4))
@anything
def test_records_of_any_kind_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    assert not taken(content, tmp_path)


@given(name=st.sampled_from([m.ARRAYS, m.METRICS, m.ABOUT]), record=records)
@anything
def test_a_good_answer_with_one_strange_record_is_refused(name: str, record: Any, tmp_path: Path) -> None:
    assert not taken(good() | {name: record}, tmp_path)


@given(data=damaged(), name=st.sampled_from(sorted(WEIGHTS)))
@anything
def test_an_array_of_damaged_bytes_is_refused_or_holds_finite_numbers(
    data: bytes, name: str, tmp_path: Path
) -> None:
    content = good()
    shape = tuple(WEIGHTS[name].shape)
    content[m.ARRAYS] = ArrayRecord(
        {**content[m.ARRAYS], name: Array("float32", shape, "numpy.ndarray", data)}
    )
    if taken(content, tmp_path):
        read = np.frombuffer(data[-4 * max(1, int(np.prod(shape))) :], np.float32)
        assert np.isfinite(read).all()


def test_a_good_answer_is_taken(tmp_path: Path) -> None:
    assert taken(good(), tmp_path)
