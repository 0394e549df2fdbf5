"""A ledger on a full disk takes no entry, says so, stays whole, and goes on when there is room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import ROOT

ON_FULL_DISK = """
import sys
from pathlib import Path
from tests.server.rounds.full_disk import fill, mount
from mmfed_client.ledger import Ledger
from mmfed_common.errors import PrivacyError
folder = Path(sys.argv[1])
mount(folder)
path = folder / "ledger.jsonl"
ledger = Ledger(path)
body = {"text": "x" * 1500}
ledger.append("note", body)
for left in (0, 4096, 8192):
    fill(folder / "ballast", left)
    before = ledger.head.length
    written = 0
    try:
        for _ in range(50):
            ledger.append("note", body)
            written += 1
    except PrivacyError as error:
        assert error.code == "MMF-311", error
    assert written < 50
    assert ledger.head.length == before + written
    assert Ledger(path).verify() == []
    (folder / "ballast").unlink()
    ledger.append("note", body)
    assert Ledger(path).head == ledger.head
    assert ledger.head.length == before + written + 1
    assert Ledger(path).verify() == []
"""


@pytest.mark.slow
def test_a_full_disk_costs_no_entry_and_breaks_no_chain(tmp_path: Path) -> None:
    try:
        subprocess.run(["unshare", "-rm", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a file system of its own: unshare -rm is not possible here")
    command = ["unshare", "-rm", sys.executable, "-c", ON_FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
