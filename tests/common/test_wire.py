"""The form in which messages travel: nothing is lost, Flower reads it, nothing that comes can crash it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfed_common import wire
from mmfed_common.wire import (
    Packer,
    UnreadableMessageError,
    content_objects,
    read_message,
    tree_of,
    wire_objects,
)

MOST = 10**9


def message(content: RecordDict | None = None, error: Error | None = None) -> Message:
    metadata = Metadata(7, "", 1, 12345, "", "", 1.8e9, 60.0, "train")
    return make_message(metadata, content=content, error=error)


def example() -> Message:
    arrays = ArrayRecord([np.arange(12, dtype=np.float32).reshape(3, 4), np.array(2.5)])
    config = ConfigRecord({"round": 3, "name": "ä", "on": True, "raw": b"\x00", "list": [1.5, 2.5]})
    return message(RecordDict({"arrays": arrays, "config": config, "m": MetricRecord({"loss": 0.1})}))


def read(objects: dict[str, bytes], name: str, most: int = MOST) -> Message:
    return read_message(name, objects.__getitem__, most)


values = st.one_of(st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.text())
contents = st.dictionaries(
    st.text(max_size=9),
    st.one_of(
        st.dictionaries(st.text(), values, max_size=4).map(ConfigRecord),
        st.dictionaries(st.text(), st.floats(allow_nan=False), max_size=4).map(MetricRecord),
        st.dictionaries(
            st.text(),
            st.binary(max_size=99).map(lambda b: Array(dtype="uint8", shape=(len(b),), stype="s", data=b)),
            max_size=4,
        ).map(ArrayRecord),
    ),
    max_size=4,
).map(RecordDict)


@given(contents)
def test_nothing_is_lost(content: RecordDict) -> None:
    objects = list(wire_objects(message(content)))
    found = read(dict(objects), objects[-1][0])
    assert found.content == content
    assert list(found.content) == list(content)
    assert found.metadata.dst_node_id == 12345


def test_chunks_may_cut_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = example()
    for size in (1, 2, 3, 7, 64):
        monkeypatch.setattr(wire, "CHUNK", size)
        objects = list(wire_objects(whole))
        assert read(dict(objects), objects[-1][0]).content == whole.content


def test_equal_messages_are_equal_bytes_and_ids_are_hashes() -> None:
    objects = list(wire_objects(example()))
    assert objects == list(wire_objects(example()))
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in objects)


def test_a_model_of_many_arrays_is_few_objects() -> None:
    many = ArrayRecord([np.zeros(10, np.float32)] * 200)
    assert len(list(wire_objects(message(RecordDict({"arrays": many}))))) == 5


@pytest.mark.parametrize("numbers", [10, 10**6])
def test_what_contents_share_is_packed_once(numbers: int) -> None:
    """Sites are sent the same weights, each with words of its own: of other lengths, too."""
    weights, frozen = (ArrayRecord([np.arange(numbers, dtype=np.float32) + n]) for n in (1, 2))
    packer, known = Packer(), {}
    for site, first in (("north", True), ("south-west", False)):
        own = ConfigRecord({"ledger-known": 10 ** len(site), "site": site})
        content = RecordDict({"arrays": weights, "config": own, "frozen": frozen})
        found = list(packer.objects(content))
        alone = dict(content_objects(content))
        assert [name for name, _ in found] == list(alone)
        spared = sum(len(alone[name]) for name, body in found if not body)
        assert (spared >= 8 * numbers) if numbers > 10**5 and not first else spared == 0
        known |= {name: body for name, body in found if body}
        name, body = wire.message_object(message(content), found[-1][0])
        assert read({**known, name: body}, name).content == content


def test_arrays_that_are_gone_are_not_taken_for_others() -> None:
    """An id may be used again for what comes later."""
    packer = Packer()
    for value in range(20):
        content = RecordDict({"arrays": ArrayRecord([np.full(10**6, value, np.float32)])})
        assert list(packer.objects(content)) == list(content_objects(content))


def test_an_error_travels() -> None:
    objects = list(wire_objects(message(error=Error(8, "MMF-404"))))
    found = read(dict(objects), objects[-1][0])
    assert (found.error.code, found.error.reason) == (8, "MMF-404")


def test_flower_reads_what_is_made() -> None:
    """Ours are Flower's own objects, tree included: a contract with flwr's internals."""
    big = message(RecordDict({"arrays": ArrayRecord([np.arange(10**6, dtype=np.float64)])}))
    for one in (example(), big, message(error=Error(1, "x"))):
        objects = list(wire_objects(one))
        names = [name for name, _ in objects]
        inflated = inflate_object_from_contents(names[-1], dict(objects))
        assert isinstance(inflated, Message)
        tree = tree_of(names)
        assert tree.object_id == names[-1]
        if one.has_content():
            packed = inflated.content.array_records["mmfed"]["packed"]
            assert packed.shape == (len(packed.data),)
            if one is not big:  # Flower would cut elsewhere
                assert tree.children[0].object_id == inflated.content.object_id
            assert len(tree.children[0].children[0].children[0].children) == len(set(names[:-4]))
        else:
            assert tree == get_object_tree(inflated)


def test_a_message_that_is_too_long_is_refused() -> None:
    objects = list(wire_objects(example()))
    with pytest.raises(UnreadableMessageError):
        read(dict(objects), objects[-1][0], most=100)


@settings(max_examples=400)
@given(st.data())
def test_whatever_comes_is_read_or_refused(data: st.DataObject) -> None:
    """Any object may be any bytes; what a hash would prevent is not relied upon here."""
    objects = dict(wire_objects(example()))
    name = list(objects)[-1]
    victim = data.draw(st.sampled_from(sorted(objects)))
    content = bytearray(objects[victim])
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "replace", "swap"]))
    at = data.draw(st.integers(0, len(content) - 1))
    if how == "flip":
        content[at] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del content[at:]
    elif how == "insert":
        content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
    elif how == "replace":
        content = bytearray(data.draw(st.binary(max_size=200)))
    else:
        content = bytearray(objects[data.draw(st.sampled_from(sorted(objects)))])
    objects[victim] = bytes(content)
    sent = read(dict(wire_objects(example())), name)
    try:
        got = read(objects, name)
    except UnreadableMessageError:
        return  # refused
    assert isinstance(got, Message)
    assert got.has_content() != got.has_error()
    assert isinstance(got.metadata, Metadata)
    if objects == dict(wire_objects(example())):
        assert got.content == sent.content


@pytest.mark.parametrize(
    "table",
    [
        b"[" * 100_000,
        b'[{"name": "a", "kind": "arrays", "arrays": [["k", "f", [1], "s", 99999999999999]]}]',
        b'[{"name": "a", "kind": "arrays", "arrays": [["k", "f", [-1], "s", 1]]}]',
        b'[{"name": "a", "kind": "arrays", "arrays": [["k", "f", [1], "s", true]]}]',
        b'[{"name": "a", "kind": "code", "bytes": 1}]',
        b'[{"name": "a", "kind": "config", "bytes": 1e400}]',
        b'{"name": "a"}',
        b"[1]",
        b"\xff\xfe",
    ],
)
def test_hostile_tables_are_refused(table: bytes) -> None:
    with pytest.raises(UnreadableMessageError):
        read(*forged(len(table).to_bytes(8, "big") + table))


@pytest.mark.parametrize("payload", [b"", b"\x00", (2**63).to_bytes(8, "big"), (10).to_bytes(8, "big")])
def test_hostile_lengths_are_refused(payload: bytes) -> None:
    with pytest.raises(UnreadableMessageError):
        read(*forged(payload))


def forged(payload: bytes) -> tuple[dict[str, bytes], str]:
    """Well-formed objects around any payload."""
    packed = Array(dtype="uint8", shape=(len(payload),), stype=wire.STYPE, data=payload)
    found = message(RecordDict({"mmfed": ArrayRecord({"packed": packed})}))
    objects: dict[str, bytes] = {}
    for part in (*packed.children.values(), packed, found.content["mmfed"], found.content, found):
        objects[part.object_id] = part.deflate()
    return objects, found.object_id
