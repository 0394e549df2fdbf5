"""How a message travels: as a few of Flower's content-addressed objects, whatever the number of its arrays.

Flower sends every array as an object of its own and every five mebibytes as another; each costs a signed
request. A model of a hundred small arrays would cost two hundred of them, for each site and direction. So
all records of a message are written one after the other into a single array, ``mmfed/packed``, which is cut
into chunks:

    length of the table (8 bytes) · table (JSON) · every record's bytes: those without arrays first

In both halves the records are in the order of the table. Where it is more than one chunk, the arrays begin a
chunk of their own: what is the same for all sites is then the same chunks for all of them.

What is made here are Flower's own objects: Flower inflates them to a message that holds one array.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, Metadata, MetricRecord, RecordDict
from flwr.app.message import make_message
from flwr.common.serde_utils import error_from_proto, error_to_proto, metadata_from_proto, metadata_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import ObjectTree
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

CHUNK = 960 * 2**10
"""Most bytes of a chunk's body: a request stays below the mebibyte that reverse proxies let through by
default, and what is in memory at a time is small."""
OVERHEAD = 64 * 2**10
"""Room for what surrounds a chunk in a request."""
MOST_TABLE = 16 * 2**20
"""Most bytes of the table of a message's records."""
MOST_ODD = 2
"""Chunks of a message that may be shorter than others: the last before its arrays, and the last."""
STYPE = "mmfed.packed.2"
RECORD, ARRAY = "mmfed", "packed"
LENGTH = 8
KINDS: dict[str, type[ConfigRecord] | type[MetricRecord]] = {"config": ConfigRecord, "metrics": MetricRecord}

Objects = Iterator[tuple[str, bytes]]


class UnreadableMessageError(ValueError):
    """Bytes that came are not a message; the text holds nothing of them."""


def wire_objects(message: Message) -> Objects:
    """Give (object id, bytes) of everything that is sent for a message, children before parents.

    The last one is the message itself. One chunk at a time is in memory.
    """
    records = ""
    if not message.has_error():
        for name, content in content_objects(message.content):
            records = name
            yield name, content
    yield message_object(message, records)


def content_objects(content: RecordDict) -> Objects:
    """Give the objects of a message's content; the last one is what :func:`message_object` refers to."""
    return Packer().objects(content)


class Packer:
    """Packs the contents of several messages; arrays that they share are cut and hashed once.

    Contents share arrays where they hold the very same records.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[list[ArrayRecord], list[str]]] = {}

    def objects(self, content: RecordDict) -> Objects:
        """Give the objects of one content; see :func:`content_objects`.

        A chunk that was given for an earlier content comes with its id and no bytes.
        """
        head, arrays = _parts(content)
        size = sum(map(len, (*head, *arrays)))
        chunks: list[str] = []
        halves = [head, arrays] if size > CHUNK else [[*head, *arrays]]
        for chunk in _cut(halves[0]):
            found = _named(_flower_object("ArrayChunk", (), chunk))
            chunks.append(found[0])
            yield found
        for half in halves[1:]:
            for name, body in self._shared(content, half):
                chunks.append(name)
                yield name, body
        for wrapped in _wrapped(chunks, size):
            yield _named(wrapped)

    def _shared(self, content: RecordDict, arrays: list[bytes]) -> Objects:
        records = list(content.array_records.values())
        same = tuple(map(id, records))
        if same in self._known:
            yield from ((name, b"") for name in self._known[same][1])
            return
        names = []
        for chunk in _cut(arrays):
            found = _named(_flower_object("ArrayChunk", (), chunk))
            names.append(found[0])
            yield found
        self._known[same] = records, names  # the records too: their ids must stay their own


def message_object(message: Message, records: str) -> tuple[str, bytes]:
    """Give the object of the message itself.

    Parameters
    ----------
    records
        Object id of its content; empty for an error.
    """
    proto = metadata_to_proto(message.metadata)
    proto.message_id = ""
    error = error_to_proto(message.error) if message.has_error() else None
    body = MessageProto(metadata=proto, error=error).SerializeToString(deterministic=True)
    return _named(_flower_object("Message", [records] if records else (), (body,)))


def tree_of(names: Sequence[str]) -> ObjectTree:
    """The tree of a message's objects as Flower announces them.

    Parameters
    ----------
    names
        The ids of :func:`wire_objects`, in its order.
    """
    tree = ObjectTree(object_id=names[-1])
    if len(names) > 1:
        *chunks, array, record, records, _ = names
        at = tree.children.add(object_id=records).children.add(object_id=record).children.add(object_id=array)
        for name in dict.fromkeys(chunks):
            at.children.add(object_id=name)
    return tree


def read_message(name: str, fetch: Callable[[str], bytes], most_bytes: int) -> Message:
    """Put a message together from its objects, one chunk in memory beside it.

    Parameters
    ----------
    name
        The message's object id.
    fetch
        Gives an object's bytes, which it has compared with the id.
    most_bytes
        A longer message is refused.

    Raises
    ------
    UnreadableMessageError
        When anything is not as :func:`wire_objects` writes it.
    """
    try:
        children, body = _opened(fetch(name), "Message")
        proto = MessageProto.FromString(body)
        metadata: Metadata = metadata_from_proto(proto.metadata)
        if proto.HasField("error"):
            if children:
                raise UnreadableMessageError("an error with content")
            error: Error = error_from_proto(proto.error)
            found = make_message(metadata, error=error)
        else:
            content = _unpacked(_Stream(_chunks(_only(children), fetch, most_bytes)))
            found = make_message(metadata, content=content)
    except UnreadableMessageError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error_:
        raise UnreadableMessageError(f"not a message ({type(error_).__name__})") from None
    except (DecodeError, RecursionError) as error_:
        raise UnreadableMessageError(f"not a message ({type(error_).__name__})") from None
    found.metadata.__dict__["_message_id"] = name
    return found


def _parts(content: RecordDict) -> tuple[list[bytes], list[bytes]]:
    """What is packed: length, table and records without arrays; and the arrays."""
    rows: list[dict[str, Any]] = []
    small: list[bytes] = []
    large: list[bytes] = []
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            arrays = [
                [key, array.dtype, list(array.shape), array.stype, len(array.data)]
                for key, array in record.items()
            ]
            rows.append({"name": name, "kind": "arrays", "arrays": arrays})
            large.extend(array.data for array in record.values())
        else:
            kind = "config" if isinstance(record, ConfigRecord) else "metrics"
            body = record.deflate()
            rows.append({"name": name, "kind": kind, "bytes": len(body)})
            small.append(body)
    table = json.dumps(rows, separators=(",", ":")).encode()
    return [len(table).to_bytes(LENGTH, "big"), table, *small], large


def _cut(bodies: Iterable[bytes]) -> Iterator[list[memoryview]]:
    """Cut bytes into chunks, without copying."""
    part: list[memoryview] = []
    room = CHUNK
    for body in bodies:
        rest = memoryview(body)
        while rest:
            part.append(rest[:room])
            rest = rest[len(part[-1]) :]
            room -= len(part[-1])
            if room == 0:
                yield part
                part, room = [], CHUNK
    if part:
        yield part


def _wrapped(chunks: list[str], size: int) -> Iterator[bytes]:
    """The array over the chunks, the record over the array, the records over the record."""
    unique = list(dict.fromkeys(chunks))
    order = [unique.index(name) for name in chunks]
    described = {"dtype": "uint8", "shape": [size], "stype": STYPE, "arraychunk_ids": order}
    array = _flower_object("Array", unique, (json.dumps(described).encode(),))
    yield array
    record = _flower_object("ArrayRecord", [_id(array)], (json.dumps({ARRAY: _id(array)}).encode(),))
    yield record
    yield _flower_object("RecordDict", [_id(record)], (json.dumps({RECORD: _id(record)}).encode(),))


def _flower_object(
    kind: str, children: tuple[()] | list[str], body: list[memoryview] | tuple[bytes, ...]
) -> bytes:
    """Flower's form of an object: kind, ids of the children, length, a zero byte, the body."""
    head = f"{kind} {','.join(children)} {sum(map(len, body))}".encode()
    return b"".join((head, b"\x00", *body))


def _id(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _named(content: bytes) -> tuple[str, bytes]:
    return _id(content), content


def _opened(content: bytes, kind: str) -> tuple[list[str], memoryview]:
    """Ids of the children and the body of an object of the kind that is expected."""
    end = content.find(b"\x00", 0, MOST_TABLE)
    found, children, length = content[: max(end, 0)].decode("ascii").split(" ")
    body = memoryview(content)[end + 1 :]
    if found != kind or length != str(len(body)):
        raise UnreadableMessageError(f"not a well-formed {kind}")
    return children.split(",") if children else [], body


def _only(children: list[str]) -> str:
    if len(children) != 1:
        raise UnreadableMessageError(f"{len(children)} parts where one is expected")
    return children[0]


def _chunks(records: str, fetch: Callable[[str], bytes], most_bytes: int) -> Iterator[memoryview]:
    """Go down to the array and give its chunks, one after the other."""
    record = _only(_opened(fetch(records), "RecordDict")[0])
    array = _only(_opened(fetch(record), "ArrayRecord")[0])
    names, body = _opened(fetch(array), "Array")
    described = json.loads(bytes(body))
    order = described["arraychunk_ids"]
    if described["stype"] != STYPE or len(order) > most_bytes // CHUNK + MOST_ODD:
        raise UnreadableMessageError("not packed as expected, or too long")
    taken = 0
    for position in order:
        if not isinstance(position, int) or position < 0:
            raise UnreadableMessageError("the chunks have no order")
        chunk = _opened(fetch(names[position]), "ArrayChunk")[1]
        taken += len(chunk)
        if taken > most_bytes:
            raise UnreadableMessageError(f"longer than {most_bytes} bytes")
        yield chunk


@dataclass
class _Stream:
    """Reads a number of bytes at a time from chunks that come one after the other."""

    chunks: Iterator[memoryview]
    rest: memoryview = field(default_factory=lambda: memoryview(b""))

    def read(self, count: int) -> bytes:
        parts = []
        while count:
            if not self.rest:
                self.rest = next(self.chunks, memoryview(b""))
                if not self.rest:
                    raise UnreadableMessageError("shorter than it says")
            parts.append(self.rest[:count])
            self.rest = self.rest[len(parts[-1]) :]
            count -= len(parts[-1])
        return b"".join(parts)

    def at_end(self) -> bool:
        return not self.rest and next(self.chunks, None) is None


def _unpacked(stream: _Stream) -> RecordDict:
    length = int.from_bytes(stream.read(LENGTH), "big")
    if length > MOST_TABLE:
        raise UnreadableMessageError("its table is too long")
    found: dict[str, ArrayRecord | ConfigRecord | MetricRecord] = {}
    rows = json.loads(stream.read(length))
    order = [row["name"] for row in rows]
    if not all(isinstance(name, str) for name in order) or len(set(order)) != len(order):
        raise UnreadableMessageError("a record has no name of its own")
    for row in sorted(rows, key=lambda row: row["kind"] == "arrays"):
        if row["kind"] == "arrays":
            found[row["name"]] = _read_arrays(row["arrays"], stream)
        else:
            found[row["name"]] = KINDS[row["kind"]].inflate(stream.read(_count(row["bytes"])))
    if not stream.at_end():
        raise UnreadableMessageError("longer than it says")
    return RecordDict({name: found[name] for name in order})


def _read_arrays(rows: list[list[Any]], stream: _Stream) -> ArrayRecord:
    arrays: dict[str, Array] = {}
    for key, dtype, shape, stype, count in rows:
        texts = (key, dtype, stype)
        if not all(isinstance(text, str) for text in texts) or key in arrays:
            raise UnreadableMessageError("an array has no name of its own")
        sizes = tuple(_count(size) for size in shape)
        arrays[key] = Array(dtype=dtype, shape=sizes, stype=stype, data=stream.read(_count(count)))
    return ArrayRecord(arrays)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UnreadableMessageError("a length is not a count")
    return value
