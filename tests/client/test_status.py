"""The status file: whole or not there, true about how long, and never a reason to stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mmfed_client.status import Sent, State, Status, StatusFile
from mmfed_common.errors import DataError

STATUS = Status("north", "lungs", study="small", rounds=10)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = StatusFile(tmp_path / "status.json")
    assert file.read() is None
    status = STATUS.troubled(State.trying_again, DataError("MMF-201", "no such file", "cohort.toml"), round=3)
    file.write(replace(status, sent=Sent("train", "now", 4, 1234)))
    found = file.read()
    assert found is not None
    assert found.state is State.trying_again
    assert found.cause == "no such file (cohort.toml)"
    assert found.sent.bytes == 1234
    assert json.loads(file.path.read_text())["next_step"] == status.next_step != ""
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_a_state_keeps_its_beginning_until_it_or_its_code_changes() -> None:
    first = STATUS.entered(State.ready)
    again = first.entered(State.ready, doing="train")
    assert again.since == first.since != ""
    other = replace(first, since="2020-01-01T00:00:00.000+00:00").entered(State.ready, "MMF-110", "x")
    assert other.since > "2021"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"state": "dancing"}', b"\xff\xfe", b'{"sent": 1}'])
def test_a_damaged_file_is_no_status(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "status.json"
    path.write_bytes(content)
    assert StatusFile(path).read() is None
    StatusFile(path).write(STATUS)
    found = StatusFile(path).read()
    assert found is not None
    assert found.site == "north"


def test_a_home_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    StatusFile(tmp_path / "missing" / "status.json").write(STATUS)
    assert "MMF-112" in caplog.text


def test_an_unchanged_status_is_not_written_again(tmp_path: Path) -> None:
    file = StatusFile(tmp_path / "status.json")
    file.write(STATUS)
    file.path.unlink()
    file.write(STATUS)
    assert not file.path.exists()
    file.write(replace(STATUS, round=1))
    assert file.path.exists()
