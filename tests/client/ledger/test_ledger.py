"""The ledger: nothing is lost once it was said to be written, and no change of the past goes unseen."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import ROOT

from mmfed_client.ledger import EMPTY, Head, Ledger
from mmfed_common.errors import PrivacyError

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.jsonl")


def filled(path: Path, count: int = 5) -> Ledger:
    ledger = Ledger(path)
    for number in range(count):
        ledger.append("note", {"number": number, "share": number / 7}, START + timedelta(hours=number))
    return ledger


def code_of(function: Any) -> str:
    with pytest.raises(PrivacyError) as caught:
        function()
    return caught.value.code


def test_an_empty_ledger_is_whole_and_makes_no_file(ledger: Ledger) -> None:
    assert (ledger.head, ledger.verify(), list(ledger.entries())) == (EMPTY, [], [])
    assert not ledger.path.exists()


def test_the_hash_is_the_sha256_of_the_canonical_rest(ledger: Ledger) -> None:
    ledger.append("note", {"b": 1, "a": "ü"}, START)
    line = ledger.path.read_text()
    before = '{"body":{"a":"\\u00fc","b":1},"kind":"note","number":1,"previous":"'
    rest = before + "0" * 64 + '","time":"2026-01-01T00:00:00Z"}'
    assert json.loads(line)["hash"] == hashlib.sha256(rest.encode()).hexdigest()
    assert ledger.head == Head(1, json.loads(line)["hash"])


def test_only_its_owner_may_read_it(ledger: Ledger) -> None:
    ledger.append("note", {})
    assert ledger.path.stat().st_mode & 0o077 == 0


def test_entries_by_time_and_kind(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "l")
    ledger.append("approval", {}, START)
    assert [e.number for e in ledger.entries(since=START + timedelta(hours=3))] == [4, 5]
    assert [e.number for e in ledger.entries(kind="approval")] == [6]


def test_decisions_are_all_entries_but_receipts(ledger: Ledger) -> None:
    ledger.append("approval", {"study": "s"})
    ledger.append("receipt", {"study": "s", "kind": "train", "round": 1})
    ledger.append("receipt", {"study": "s", "kind": "train", "round": 1, "error": "MMF-404"})
    for seen in (ledger, Ledger(ledger.path)):
        assert [e.kind for e in seen.decisions()] == ["approval"]
        assert (seen.answers("s", "train", 1), seen.answers("s", "train", 2)) == (1, 0)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_any_body_is_read_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("l") / "l")
    ledger.append("note", {"value": value})
    assert next(Ledger(ledger.path).entries()).body == {"value": value}
    assert Ledger(ledger.path).verify() == []


@pytest.mark.parametrize("body", [{"x": float("nan")}, {"x": float("inf")}, {"x": (1, 2)}, {1: "x"}])
def test_what_has_no_one_form_is_not_written(ledger: Ledger, body: dict[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"JSON|survive"):
        ledger.append("note", body)
    assert ledger.head == EMPTY


def test_two_ledgers_of_one_file_see_each_other(tmp_path: Path) -> None:
    one, two = filled(tmp_path / "l", 1), Ledger(tmp_path / "l")
    two.append("note", {"by": "two"})
    one.append("note", {"by": "one"})
    assert one.head == two.head == Ledger(tmp_path / "l").head
    assert one.head.length == 3


def test_threads_and_processes_write_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "l"
    processes = [append_in_process(path, 20, name) for name in "ab"]
    shared = Ledger(path)

    def add() -> None:
        for number in range(20):
            shared.append("note", {"by": "thread", "number": number})

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        assert process.wait(60) == 0
        process.communicate()
    assert Ledger(path).verify() == []
    assert shared.head.length == 80


def append_in_process(path: Path, count: int, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.client.ledger.appending_process", str(path), str(count), name]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def test_nothing_that_was_written_is_lost_by_a_kill(tmp_path: Path) -> None:
    path, random = tmp_path / "l", Random(3)
    promised = 0
    for _ in range(6):
        process = append_in_process(path, 10_000, "killed")
        assert process.stdout is not None
        for _ in range(random.randint(1, 30)):
            promised = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate()
        promised = max([promised, *(int(line) for line in rest.split(b"\n")[:-1])])
        assert Ledger(path).head.length >= promised
    after = Ledger(path)
    after.append("note", {})
    assert after.verify() == []


@pytest.mark.parametrize("fragment", [b"{", b'{"body":{},"kind":"note"', b"\0" * 100, b"\xff\xfe"])
def test_a_torn_line_is_cut_off_and_said_so(tmp_path: Path, fragment: bytes) -> None:
    path = tmp_path / "l"
    filled(path, 2)
    with path.open("ab") as file:
        file.write(fragment)
    torn = Ledger(path)
    assert [fault.severity for fault in torn.verify()] == ["warning"]
    assert [e.number for e in torn.entries()] == [1, 2]
    torn.append("note", {})
    recovery = list(torn.entries())[2]
    expected = {"bytes": len(fragment), "sha256": hashlib.sha256(fragment).hexdigest()}
    assert (recovery.kind, recovery.body) == ("recovery", expected)
    assert torn.verify() == []
    assert torn.head.length == 4


def test_a_crash_between_cutting_off_and_saying_so_is_still_said(tmp_path: Path) -> None:
    path = tmp_path / "l"
    filled(path, 1)
    (tmp_path / "l.torn").write_text('{"bytes": 3, "sha256": "abc"}')
    Ledger(path).append("note", {})
    assert [e.kind for e in Ledger(path).entries()] == ["note", "recovery", "note"]
    assert not (tmp_path / "l.torn").exists()


def test_a_damaged_note_about_a_crash_does_not_stop_the_site(tmp_path: Path) -> None:
    path = tmp_path / "l"
    filled(path, 1)
    (tmp_path / "l.torn").write_text("{")
    Ledger(path).append("note", {})
    assert [e.kind for e in Ledger(path).entries()] == ["note", "recovery", "note"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: what a full disk does, for every user."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_adds_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "l", 3)
    size = ledger.path.stat().st_size
    with largest_file(size + 50):
        assert code_of(lambda: ledger.append("note", {"text": "y" * 500})) == "MMF-311"
    assert ledger.path.stat().st_size == size
    assert ledger.append("note", {}).number == 4
    assert ledger.verify() == []


def test_a_folder_that_is_gone_has_its_code(tmp_path: Path) -> None:
    assert code_of(lambda: Ledger(tmp_path / "none" / "l").append("note", {})) == "MMF-311"


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:2] + lines[3:],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [lines[0].replace(b'"number":0', b'"number":9'), *lines[1:]],
        lambda lines: [b"", *lines],
        lambda lines: [lines[0].replace(b":", b": "), *lines[1:]],
    ],
)
def test_a_changed_past_stops_everything(tmp_path: Path, change: Any) -> None:
    ledger = filled(tmp_path / "l")
    lines = ledger.path.read_bytes().split(b"\n")[:-1]
    ledger.path.write_bytes(b"\n".join(change(lines)) + b"\n")
    changed = Ledger(ledger.path)
    assert changed.verify()
    assert code_of(lambda: changed.append("note", {})) == "MMF-310"
    assert code_of(lambda: changed.head) == "MMF-310"
    assert code_of(lambda: list(changed.entries())) == "MMF-310"


def test_a_ledger_replaced_by_a_shorter_one_is_noticed_while_it_is_open(tmp_path: Path) -> None:
    ledger, other = filled(tmp_path / "l"), filled(tmp_path / "other", 3)
    os.replace(other.path, ledger.path)
    for _ in range(3):
        assert code_of(lambda: ledger.append("note", {})) == "MMF-310"


def test_a_ledger_that_is_deleted_while_it_is_open_is_not_begun_anew(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "l")
    ledger.path.unlink()
    for _ in range(2):
        assert code_of(lambda: ledger.append("note", {})) == "MMF-310"
        assert code_of(lambda: ledger.head) == "MMF-310"


def test_a_ledger_restored_with_its_whole_past_goes_on(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "l")
    copy = tmp_path / "copy"
    copy.write_bytes(ledger.path.read_bytes())
    os.replace(copy, ledger.path)
    assert ledger.append("note", {}).number == 6
    assert ledger.verify() == []


def test_verify_names_each_broken_line(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "l", 6)
    lines = ledger.path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b'"number":1,', b'"number":7,')
    lines[4] = b"garbage"
    ledger.path.write_bytes(b"\n".join(lines))
    assert [fault.row for fault in ledger.verify()] == [1, 4, 5]
