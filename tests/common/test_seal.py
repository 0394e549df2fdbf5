"""The seal: every change of an answer breaks it, and it answers one message only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.seal import check_seal, seal, sealed_bytes
from mmfed_common.signing import SiteKey

KEY, OTHER = SiteKey.generate(), SiteKey.generate()
REQUEST = "request-1"
Change = Callable[[Message], None]


@pytest.fixture(autouse=True, scope="module")
def identity() -> None:
    """Messages can only be made by a process that says which node it is."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 2


def unsealed(request: str = REQUEST, kind: str = m.TRAIN) -> Message:
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    about = {m.STUDY_HASH: "ab" * 32, m.ROUND: 3, m.SITE: "north", m.REQUEST: request, m.LEDGER_LENGTH: 5}
    content = RecordDict(
        {
            m.ARRAYS: ArrayRecord({"weight": Array(weights), "bias": Array(np.zeros(3, np.float32))}),
            m.METRICS: MetricRecord({m.NUM_EXAMPLES: 20, m.LOSS: 0.5, "list": [1, 2]}),
            m.ABOUT: ConfigRecord(about),
        }
    )
    return Message(content, dst_node_id=1, message_type=kind)


def sealed() -> Message:
    answer = unsealed()
    seal(answer, KEY)
    return answer


def arrays(answer: Message) -> ArrayRecord:
    return answer.content.array_records[m.ARRAYS]


def metrics(answer: Message) -> MetricRecord:
    return answer.content.metric_records[m.METRICS]


def about(answer: Message) -> ConfigRecord:
    return answer.content.config_records[m.ABOUT]


def swap_names(answer: Message) -> None:
    record = arrays(answer)
    record["weight"], record["bias"] = record["bias"], record["weight"]


def flip_last_bit(answer: Message) -> None:
    array = arrays(answer)["weight"]
    data = array.data[:-1] + bytes([array.data[-1] ^ 1])
    arrays(answer)["weight"] = Array(dtype=array.dtype, shape=array.shape, stype=array.stype, data=data)


def reshape(answer: Message) -> None:
    array = arrays(answer)["weight"]
    arrays(answer)["weight"] = Array(dtype=array.dtype, shape=(3, 2), stype=array.stype, data=array.data)


def move_to_metrics(answer: Message) -> None:
    """Put a value of the about record where a metric of the same name would be."""
    del about(answer)[m.ROUND]
    answer.content["about2"] = MetricRecord({m.ROUND: 3})


CHANGES: dict[str, Change] = {
    "a bit of an array": flip_last_bit,
    "a shape": reshape,
    "names of arrays swapped": swap_names,
    "an array removed": lambda a: arrays(a).pop("bias") and None,
    "an array added": lambda a: arrays(a).update({"extra": Array(np.zeros(1, np.float32))}),
    "a count": lambda a: metrics(a).update({m.NUM_EXAMPLES: 21}),
    "the type of a count": lambda a: metrics(a).update({m.NUM_EXAMPLES: 20.0}),
    "the last bit of a loss": lambda a: metrics(a).update({m.LOSS: float(np.nextafter(0.5, 1))}),
    "the type in a list": lambda a: metrics(a).update({"list": [1.0, 2.0]}),
    "order in a list": lambda a: metrics(a).update({"list": [2, 1]}),
    "the round": lambda a: about(a).update({m.ROUND: 4}),
    "the round as text": lambda a: about(a).update({m.ROUND: "3"}),
    "the round as bytes": lambda a: about(a).update({m.ROUND: b"3"}),
    "the study": lambda a: about(a).update({m.STUDY_HASH: "cd" * 32}),
    "the site": lambda a: about(a).update({m.SITE: "south"}),
    "the ledger's length": lambda a: about(a).update({m.LEDGER_LENGTH: 6}),
    "the request": lambda a: about(a).update({m.REQUEST: "request-2"}),
    "a field added": lambda a: about(a).update({"more": True}),
    "a field moved": move_to_metrics,
    "a record added": lambda a: a.content.update({"more": ConfigRecord({})}),
    "a record removed": lambda a: a.content.pop(m.METRICS) and None,
    "a signature elsewhere": lambda a: a.content.update({"x": ConfigRecord({m.SIGNATURE: "00"})}),
    "no signature": lambda a: about(a).pop(m.SIGNATURE) and None,
    "an empty signature": lambda a: about(a).update({m.SIGNATURE: ""}),
    "a signature that is no text": lambda a: about(a).update({m.SIGNATURE: b"00"}),
    "a signature that is not hexadecimal": lambda a: about(a).update({m.SIGNATURE: "zz"}),
    "no about record": lambda a: a.content.pop(m.ABOUT) and None,
}


def refused(answer: Message, request: str = REQUEST, key: SiteKey = KEY) -> bool:
    try:
        check_seal(answer, key.public, request)
    except NetworkError as error:
        return error.code == "MMF-416"
    return False


def test_an_unchanged_answer_passes() -> None:
    assert not refused(sealed())


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_every_change_breaks_the_seal(change: Change) -> None:
    answer = sealed()
    change(answer)
    assert refused(answer)


def test_an_answer_to_another_message_is_refused() -> None:
    assert refused(sealed(), request="request-2")


def test_another_sites_key_is_refused() -> None:
    assert refused(sealed(), key=OTHER)


def test_a_seal_does_not_fit_another_kind_of_message() -> None:
    answer, other = sealed(), unsealed(kind=m.EVALUATE_HELD_OUT)
    about(other)[m.SIGNATURE] = about(answer)[m.SIGNATURE]
    assert refused(other)


def test_an_error_answer_is_refused_and_does_not_crash() -> None:
    request = unsealed()
    assert refused(Message(Error(code=0, reason="MMF-404"), reply_to=request))


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_floats_are_told_apart_exactly(first: float, second: float) -> None:
    def digest(value: float) -> bytes:
        return sealed_bytes(m.TRAIN, RecordDict({m.METRICS: MetricRecord({m.LOSS: value})}))

    same = first.hex() == second.hex()
    assert (digest(first) == digest(second)) == same


values = st.one_of(
    st.text(max_size=4),
    st.booleans(),
    st.integers(-9, 9),
    st.binary(max_size=4),
    st.lists(st.text(max_size=3), min_size=1, max_size=3),
    st.lists(st.integers(-9, 9), min_size=1, max_size=3),
)


@given(values, values)
def test_values_of_every_type_are_told_apart(first: object, second: object) -> None:
    def digest(value: object) -> bytes:
        return sealed_bytes(m.TRAIN, RecordDict({"c": ConfigRecord({"key": value})}))  # type: ignore[dict-item]

    same = type(first) is type(second) and first == second
    assert (digest(first) == digest(second)) == same
