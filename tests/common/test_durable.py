"""A file is whole or not there, also when several write it at once, or one dies at it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmfed_common.durable import replace_durably, write_durably

WRITES = """
import sys
from pathlib import Path
from mmfed_common.durable import write_durably
for _ in range(150):
    write_durably(Path(sys.argv[1]), sys.argv[2].encode() * 40_000)
"""


def test_who_writes_at_once_writes_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(path, b"0" * 40_000)
    writers = [subprocess.Popen([sys.executable, "-c", WRITES, str(path), letter]) for letter in "ab"]
    found: set[bytes] = set()
    try:
        while any(writer.poll() is None for writer in writers):
            content = path.read_bytes()
            assert len(content) == 40_000
            assert content == content[:1] * 40_000
            found.add(content[:1])
    finally:
        for writer in writers:
            writer.wait(120)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert found & {b"a", b"b"}
    assert os.listdir(tmp_path) == ["file"]


def test_threads_write_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write(number: int) -> None:
        for _ in range(50):
            write_durably(path, bytes([number]) * 1000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    content = path.read_bytes()
    assert content == content[:1] * 1000


def test_what_a_dead_writer_left_is_removed_and_gives_no_permission(tmp_path: Path) -> None:
    path, beside = tmp_path / "key", tmp_path / "key.partial"
    beside.write_bytes(b"much longer than what follows")
    beside.chmod(0o644)
    write_durably(path, b"secret", 0o600)
    assert path.read_bytes() == b"secret"
    assert path.stat().st_mode & 0o777 == 0o600
    assert not beside.exists()


def test_a_link_in_the_place_of_the_partial_file_is_not_followed(tmp_path: Path) -> None:
    for target in (tmp_path / "other", tmp_path / "missing"):
        (tmp_path / "other").write_bytes(b"another's")
        (tmp_path / "file.partial").symlink_to(target)
        write_durably(tmp_path / "file", b"mine")
        assert (tmp_path / "file").read_bytes() == b"mine"
        assert not (tmp_path / "file").is_symlink()
        assert (tmp_path / "other").read_bytes() == b"another's"
        assert not (tmp_path / "missing").exists()


def test_a_writer_waits_for_one_that_is_at_work(tmp_path: Path) -> None:
    path = tmp_path / "file"
    begun, go = threading.Event(), threading.Event()

    def slowly(file: object) -> None:
        begun.set()
        assert go.wait(60)
        file.write(b"slow")  # type: ignore[attr-defined]

    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(replace_durably, path, slowly)
        assert begun.wait(60)
        quick = pool.submit(write_durably, path, b"quick")
        with pytest.raises(TimeoutError):
            quick.result(0.3)
        go.set()
        slow.result(60)
        quick.result(60)
    assert path.read_bytes() == b"quick"


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_descriptor: int, _how: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    (tmp_path / "file.partial").write_bytes(b"left")
    write_durably(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_failed_writer_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(path, b"former")

    def fail(_file: object) -> None:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        replace_durably(path, fail)
    assert path.read_bytes() == b"former"
    write_durably(path, b"next")
    assert path.read_bytes() == b"next"
