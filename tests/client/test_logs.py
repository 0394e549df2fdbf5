"""The log: one JSON object a line, and no exception's text in it, however the exception came there."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmfed_client.logs import LogFile, about, entry_of, send_logs
from mmfed_common.errors import DataError

CANARY = "PATIENT-0471"
logger = logging.getLogger("mmfed_client.of_a_test")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogFile]:
    """A log file that this process writes to."""
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    file = LogFile(tmp_path / "log.jsonl")
    file.take_over()
    yield file
    file.close()
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def lines(tmp_path: Path) -> list[dict[str, object]]:
    """What stands in the file."""
    return [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]


def test_no_way_of_logging_an_exception_writes_its_text(log: LogFile, tmp_path: Path) -> None:
    known = DataError("MMF-206", f"{CANARY} has age 999", f"row of {CANARY}")
    for error in (known, ValueError(f"cannot convert {CANARY}")):
        logger.error("%s: %s", "train", error)
        logger.error("%(kind)s: %(error)s", {"kind": "train", "error": error})
        logger.error(error)
        try:
            raise error
        except (DataError, ValueError):
            logger.exception("while training")
    text = json.dumps([{**line, "time": ""} for line in lines(tmp_path)])  # a time may hold any three digits
    assert CANARY not in text
    assert "999" not in text
    found = lines(tmp_path)
    assert len(found) == 8
    assert found[0]["message"] == f"train: {known.public}"
    assert found[4]["message"] == "train: ValueError"
    assert found[7]["exception"] == "ValueError"
    assert any("test_logs.py" in str(place) for place in found[7]["raised"])  # type: ignore[attr-defined]


def test_fields_are_few_and_known(log: LogFile, tmp_path: Path) -> None:
    logger.info("sent", extra=about(kind="train", round=3, bytes=17))
    assert {"kind": "train", "round": 3, "bytes": 17}.items() <= lines(tmp_path)[0].items()
    with pytest.raises(KeyError):
        about(patient=CANARY)


def test_entries_of_another_process_are_written_as_they_came(log: LogFile, tmp_path: Path) -> None:
    record = logging.makeLogRecord({"msg": "trained", "name": "mmfed_client.node", "levelname": "INFO"})
    log.add(entry_of(record))
    log.add({"message": "b", "source": "x", "odd": {"deep": [1]}})
    assert lines(tmp_path)[0]["message"] == "trained"
    assert lines(tmp_path)[1]["odd"] == {"deep": [1]}


def test_the_file_rotates(log: LogFile, tmp_path: Path) -> None:
    log.handler.maxBytes = 2000
    for number in range(100):
        logger.info("entry %d of the log", number)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files[:2] == ["log.jsonl", "log.jsonl.1"]
    assert len(files) <= 6
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())


def test_libraries_are_quiet_below_warnings(log: LogFile, tmp_path: Path) -> None:
    logging.getLogger("flwr").info("hello")
    logging.getLogger("flwr").warning("careful")
    logging.getLogger("httpx").info("GET")
    assert [line["message"] for line in lines(tmp_path)] == ["careful"]


def test_entries_can_be_handed_to_a_function() -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    got: list[dict[str, object]] = []
    try:
        send_logs(got.append)
        logger.warning("over %s", "the pipe", extra=about(code="MMF-110"))
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]
    assert got[0]["message"] == "over the pipe"
    assert got[0]["code"] == "MMF-110"
