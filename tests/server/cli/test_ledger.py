"""``mmfed-server ledger``: an export must pass through every head that the site ever told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.server.serving import founded

from mmfed_client.ledger import Ledger
from mmfed_common.portal_protocol import join_proof, secret_verifier
from mmfed_common.signing import SiteKey
from mmfed_server.cli.program import run
from mmfed_server.database import open_database
from mmfed_server.federation import SiteRegistry

KEY = SiteKey.generate()


def written(path: Path, entries: int, word: str = "first") -> Ledger:
    """A ledger with so many entries."""
    ledger = Ledger(path)
    for number in range(entries):
        ledger.append("note", {"number": number, "word": word})
    return ledger


@pytest.fixture
def registry(tmp_path: Path) -> SiteRegistry:
    """A federation in which the site ``north`` has told of entries 2 and 5 of its ledger."""
    registry = SiteRegistry(open_database(founded(tmp_path).database_url))
    proof = join_proof(secret_verifier(registry.invite("north").secret), b"transcript")
    registry.enrol("north", b"transcript", proof, KEY.public)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for number in range(7):
        entry = ledger.append("note", {"number": number, "word": "first"})
        if entry.number in (2, 5):
            registry.note_ledger("north", entry.number, entry.hash)
    return registry


def compare(tmp_path: Path, ledger: Ledger, key: SiteKey = KEY) -> int:
    """Export and compare; gives the exit code."""
    ledger.export(tmp_path / "export.jsonl", key)
    folder = str(founded_folder(tmp_path))
    return run(["ledger", "north", str(tmp_path / "export.jsonl"), "--dir", folder, "--json"])


def founded_folder(tmp_path: Path) -> Path:
    """Where :func:`founded` has put the federation."""
    (file,) = tmp_path.rglob("federation.toml")
    return file.parent


def test_the_true_ledger_fits_also_after_the_site_was_revoked(
    registry: SiteRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for revoke in (False, True):
        if revoke:
            registry.revoke("north")
        assert compare(tmp_path, Ledger(tmp_path / "ledger.jsonl")) == 0
        found = json.loads(capsys.readouterr().out)
        assert found == {"site": "north", "entries": 7, "heads": 2, "agrees": True}


@pytest.mark.parametrize(
    ("entries", "word", "said"),
    [
        (9, "second", "2 of 2 heads do not fit: entry 2, told at"),
        (3, "second", "the export ends at entry 3, before entry 5"),
    ],
)
def test_a_rewritten_or_cut_ledger_does_not_fit(
    registry: SiteRegistry,
    tmp_path: Path,
    entries: int,
    word: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert compare(tmp_path, written(tmp_path / "other.jsonl", entries, word)) == 4
    error = capsys.readouterr().err
    assert "MMF-441" in error
    assert said in error


def test_anothers_signature_and_an_unknown_site_are_refused(registry: SiteRegistry, tmp_path: Path) -> None:
    assert compare(tmp_path, Ledger(tmp_path / "ledger.jsonl"), SiteKey.generate()) == 3
    folder = str(founded_folder(tmp_path))
    assert run(["ledger", "nobody", str(tmp_path / "export.jsonl"), "--dir", folder]) == 4
    registry.invite("south")
    assert run(["ledger", "south", str(tmp_path / "export.jsonl"), "--dir", folder]) == 4
