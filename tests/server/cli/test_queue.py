"""``mmfed-server study submit | queue | drop``, and where the queue is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from tests.server.serving import founded

from mmfed_common.study import Study
from mmfed_server.cli.program import run
from mmfed_server.database import open_database
from mmfed_server.federation import Federation
from mmfed_server.record.catalogue import RunCatalogue
from mmfed_server.record.tables import runs
from mmfed_server.studies import study_template


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return founded(tmp_path)


@pytest.fixture
def studies(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{name}.toml" for name in ("first", "second")]
    for path in found:
        path.write_text(study_template(path.stem, 1))
    return found


def test_studies_are_submitted_listed_and_taken_off(
    federation: Federation, studies: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def typed(*words: str, code: int = 0) -> dict[str, Any]:
        assert run([*words, "--dir", str(federation.path), "--json"]) == code
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    hashes = [Study.load(path).hash for path in studies]
    for place, path in enumerate(studies, start=1):
        told = typed("study", "submit", str(path))
        assert (told["study"], told["place"], told["served"]) == (hashes[place - 1], place, False)
    assert typed("study", "submit", str(studies[0]))["place"] == 1
    assert [entry["name"] for entry in typed("study", "queue")["queue"]] == ["first", "second"]
    assert [entry["study"] for entry in typed("runs")["queue"]] == hashes
    assert [entry["name"] for entry in typed("status")["waiting"]] == ["first", "second"]
    assert run(["study", "queue", "--dir", str(federation.path)]) == 0
    assert "2. second" in capsys.readouterr().out
    assert run(["runs", "--dir", str(federation.path)]) == 0
    assert capsys.readouterr().out.count("turn") == 2
    assert typed("study", "drop", hashes[0][:10])["name"] == "first"
    assert [entry["name"] for entry in typed("study", "queue")["queue"]] == ["second"]
    for unclear in (hashes[0][:10], "x"):
        assert typed("study", "drop", unclear, code=5)["error"]["code"] == "MMF-559"


def test_a_finished_study_is_run_again_only_when_that_is_said(
    federation: Federation, studies: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    engine = open_database(federation.database_url)
    done = RunCatalogue(engine).begin(Study.load(studies[0]))
    with engine.begin() as connection:
        connection.execute(update(runs).where(runs.c.run == done).values(status="finished", finished=True))
    words = ["study", "submit", str(studies[0]), "--dir", str(federation.path), "--json"]
    assert run(words) == 5
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "MMF-558"
    assert run([*words, "--again"]) == 0
    assert json.loads(capsys.readouterr().out)["place"] == 1
