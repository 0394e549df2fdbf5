"""An exported ledger: every change of it is found, by mmfed and by the ten lines of the documentation."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from tests.client.ledger.test_ledger import filled
from tests.conftest import ROOT

from mmfed_client.ledger import Ledger, verify_export
from mmfed_common.errors import PrivacyError
from mmfed_common.signing import SiteKey


@pytest.fixture(scope="module")
def key() -> SiteKey:
    return SiteKey.generate()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, key: SiteKey) -> Path:
    folder = tmp_path_factory.mktemp("export")
    filled(folder / "ledger.jsonl", 12).export(folder / "export.jsonl", key)
    return folder / "export.jsonl"


def refused(path: Path, key: SiteKey) -> bool:
    try:
        verify_export(path, key.public)
    except PrivacyError as error:
        return error.code == "MMF-313"
    return False


def test_a_whole_export_is_accepted(exported: Path, key: SiteKey) -> None:
    assert verify_export(exported, key.public) == Ledger(exported.with_name("ledger.jsonl")).head


def test_an_empty_ledger_can_be_exported(tmp_path: Path, key: SiteKey) -> None:
    Ledger(tmp_path / "none").export(tmp_path / "export", key)
    assert verify_export(tmp_path / "export", key.public).length == 0


def test_ten_thousand_changes_are_all_found(exported: Path, key: SiteKey, tmp_path: Path) -> None:
    whole, random = exported.read_bytes(), Random(11)
    path = tmp_path / "changed"
    missed = []
    for number in range(10_000):
        changed = change(whole, random, number % 3)
        path.write_bytes(changed)
        if not refused(path, key):
            missed.append(number)
    assert missed == []


def change(content: bytes, random: Random, way: int) -> bytes:
    """Change one byte, leave one out, or swap two neighbours that differ."""
    while True:
        at = random.randrange(len(content) - 1)
        if way == 0:
            return content[:at] + bytes([content[at] ^ random.randint(1, 255)]) + content[at + 1 :]
        if way == 1:
            return content[:at] + content[at + 1 :]
        if content[at] != content[at + 1]:
            return content[:at] + content[at + 1 : at + 2] + content[at : at + 1] + content[at + 2 :]


def test_a_last_line_missing_or_of_another_ledger_is_found(
    exported: Path, key: SiteKey, tmp_path: Path
) -> None:
    lines = exported.read_bytes().split(b"\n")[:-1]
    filled(tmp_path / "other", 11).export(tmp_path / "other.export", key)
    last = (tmp_path / "other.export").read_bytes().split(b"\n")[-2]
    for changed in (lines[:-1], [*lines[:-2], lines[-1]], [*lines[:-1], last], [*lines, lines[-1]], []):
        (tmp_path / "changed").write_bytes(b"".join(line + b"\n" for line in changed))
        assert refused(tmp_path / "changed", key)
    (tmp_path / "open").write_bytes(exported.read_bytes()[:-1])
    assert refused(tmp_path / "open", key)


def test_another_sites_key_is_refused(exported: Path) -> None:
    assert refused(exported, SiteKey.generate())


def test_a_broken_ledger_is_not_exported(tmp_path: Path, key: SiteKey) -> None:
    ledger = filled(tmp_path / "l")
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b'"number":2,"s', b'"number":3,"s'))
    with pytest.raises(PrivacyError) as caught:
        Ledger(ledger.path).export(tmp_path / "export", key)
    assert caught.value.code == "MMF-310"
    assert not (tmp_path / "export").exists()


def run_script(folder: Path, export: Path, key: SiteKey) -> int:
    page = (ROOT / "docs" / "ledger.md").read_text()
    scripts = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(scripts) == 1
    assert len([line for line in scripts[0].splitlines() if line]) <= 16
    (folder / "verify.py").write_text(scripts[0])
    (folder / "site.pem").write_bytes(key.public.pem())
    command = [sys.executable, "-I", "verify.py", str(export), "site.pem"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode


def test_the_documented_script_agrees(exported: Path, key: SiteKey, tmp_path: Path) -> None:
    whole, random = exported.read_bytes(), Random(5)
    assert run_script(tmp_path, exported, key) == 0
    for number in range(12):
        (tmp_path / "changed").write_bytes(change(whole, random, number % 3))
        assert run_script(tmp_path, tmp_path / "changed", key) != 0
    assert run_script(tmp_path, exported, SiteKey.generate()) != 0
