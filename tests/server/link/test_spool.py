"""Objects that wait on disk: kept as long as a message needs them, and readable by nobody."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.object_store import NoObjectInStoreError, ObjectStore
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from tests.common.test_wire import example

from mmfed_common.errors import NetworkError
from mmfed_common.wire import message_object, tree_of
from mmfed_server.link.spool import SMALL, Spool

LARGE = os.urandom(2 * SMALL)


def named(content: bytes) -> tuple[str, bytes]:
    return hashlib.sha256(content).hexdigest(), content


def tree(root: str, *leaves: str) -> ObjectTree:
    return ObjectTree(object_id=root, children=[ObjectTree(object_id=leaf) for leaf in leaves])


def chunk(data: bytes) -> tuple[str, bytes]:
    """An object in Flower's form."""
    return named(b"ArrayChunk  %d\x00" % len(data) + data)


@pytest.fixture(params=["ours", "flower's"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return Spool(tmp_path / "spool") if request.param == "ours" else InMemoryObjectStore()


class TestContract:
    """What the spool and Flower's own store have in common."""

    def test_an_object_comes_back(self, store: ObjectStore) -> None:
        (small, small_bytes), (large, large_bytes) = chunk(b"abc"), chunk(LARGE)
        root, root_bytes = message_object(example(), large)
        assert store.preregister(1, tree(root, small, large)) == [small, large, root]
        assert store.get(small) == b""
        for name, content in ((small, small_bytes), (large, large_bytes), (root, root_bytes)):
            store.put(name, content)
            store.put(name, content)
            assert store.get(name) == content
        assert store.get_object_tree(root) == tree(root, small, large)
        assert (small in store, len(store)) == (True, 3)

    def test_what_nobody_announced_is_refused(self, store: ObjectStore) -> None:
        with pytest.raises(NoObjectInStoreError):
            store.put(*chunk(b"x"))
        with pytest.raises(NoObjectInStoreError):
            store.get_object_tree("ab" * 32)
        assert store.get("ab" * 32) is None

    def test_other_bytes_than_the_id_says_are_refused(self, store: ObjectStore) -> None:
        (name, _), (_, other) = chunk(b"abc"), chunk(b"abd")
        store.preregister(1, tree("ab" * 32, name))
        with pytest.raises(ValueError, match=r"\w"):
            store.put(name, other)
        assert store.get(name) == b""

    def test_an_id_is_never_a_path(self, store: ObjectStore) -> None:
        with pytest.raises(ValueError, match=r"\w"):
            store.preregister(1, tree("ab" * 32, "../../../etc/passwd"))

    def test_what_two_messages_need_lives_as_long_as_one_of_them(self, store: ObjectStore) -> None:
        shared, content = chunk(LARGE)
        store.preregister(1, tree("ab" * 32, shared))
        store.preregister(1, tree("cd" * 32, shared))
        store.put(shared, content)
        store.delete("ab" * 32)
        assert store.get(shared) == content
        store.delete("cd" * 32)
        assert store.get(shared) is None
        assert len(store) == 0

    def test_a_run_is_forgotten_whole(self, store: ObjectStore) -> None:
        store.preregister(1, tree("ab" * 32, chunk(b"a")[0]))
        store.preregister(2, tree("cd" * 32, chunk(b"b")[0]))
        store.delete_objects_in_run(1)
        assert len(store) == 2
        store.clear()
        assert len(store) == 0


def test_no_site_learns_what_another_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    shared, content = chunk(b"abc")
    spool.preregister(1, tree("ab" * 32, shared))
    spool.put(shared, content)
    assert spool.preregister(1, tree("cd" * 32, shared)) == [shared, "cd" * 32]


def test_the_disk_holds_nothing_that_can_be_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    name, content = chunk(b"a patient's weights " * 10_000)
    spool.hold("me", name, content)
    (file,) = (tmp_path / "spool").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert name not in file.name
    assert b"patient" not in file.read_bytes()
    assert spool.get(name) == content


def test_a_damaged_file_is_no_object(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.hold("me", *chunk(LARGE))
    (file,) = (tmp_path / "spool").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for damage in (lambda: None, file.unlink):
        damage()
        with pytest.raises(NetworkError) as caught:
            spool.get(chunk(LARGE)[0])
        assert caught.value.code == "MMF-486"


def test_files_go_with_their_objects_and_with_the_process_before(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder)
    spool.hold("me", *chunk(LARGE))
    spool.hold("you", *chunk(LARGE))
    spool.delete("me")
    assert len(list(folder.iterdir())) == 1
    spool.delete("you")
    assert list(folder.iterdir()) == []
    spool.hold("me", *chunk(LARGE))
    Spool(folder)
    assert list(folder.iterdir()) == []


def test_only_large_objects_go_to_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.hold("me", *chunk(b"x"))
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    (tmp_path / "spool").rmdir()
    name, content = chunk(LARGE)
    with pytest.raises(NetworkError) as caught:
        spool.hold("me", name, content)
    assert caught.value.code == "MMF-486"
    assert spool.get(name) == b""


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NetworkError) as caught:
        Spool(tmp_path / "file" / "spool")
    assert caught.value.code == "MMF-486"


def test_a_tree_is_what_the_link_announces(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    names = [f"{n:064x}" for n in (1, 2, 1, 3, 4, 5, 6)]
    assert spool.preregister(1, tree_of(names)) == list(dict.fromkeys(names))
