"""The coordinator's log: whole JSON lines, bounded, and back to silence afterwards."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from mmfed_server import logs
from mmfed_server.logs import LOG_FILE, logging_to, tell


def lines(folder: Path) -> list[dict[str, object]]:
    """What is in the file."""
    return [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]


def test_an_event_is_one_line_with_its_details(tmp_path: Path) -> None:
    with logging_to(tmp_path, quiet=True):
        tell("round", round=3, sites=["north"], text='quotes " and\nlines')
    (entry,) = lines(tmp_path)
    assert entry["event"] == "round"
    assert entry["level"] == "info"
    assert (entry["round"], entry["sites"], entry["text"]) == (3, ["north"], 'quotes " and\nlines')
    assert str(entry["time"]).endswith("+00:00")


def test_details_cannot_pose_as_the_event(tmp_path: Path) -> None:
    with logging_to(tmp_path, quiet=True):
        tell("refused", time="never", site="x\n{}")
    (entry,) = lines(tmp_path)
    assert entry["time"] != "never"


def test_a_traceback_stays_within_its_line(tmp_path: Path) -> None:
    with logging_to(tmp_path, quiet=True):
        try:
            raise ValueError("odd")
        except ValueError:
            logging.getLogger("mmfed_server.coordinator").exception("a defect")
    (entry,) = lines(tmp_path)
    assert "ValueError: odd" in str(entry["traceback"])


def test_files_are_turned_over_before_they_grow_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_BYTES", 2000)
    with logging_to(tmp_path, quiet=True):
        for number in range(300):
            tell("round", round=number)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 1 + logs.KEPT_FILES
    assert all(file.stat().st_size <= 2000 for file in files)


def test_people_see_what_the_file_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(tmp_path):
        tell("round", round=3, sites=["north", "south"])
    assert "round 3 · sites north, south" in capsys.readouterr().err
    before = (tmp_path / LOG_FILE).read_bytes()
    tell("after the block")
    assert (tmp_path / LOG_FILE).read_bytes() == before
