"""No room for messages: the round ends with a code at once, nothing is left over, and the next one works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import ROOT


@pytest.mark.slow
def test_a_full_disk_ends_a_round_and_not_the_next(tmp_path: Path) -> None:
    try:
        subprocess.run(["unshare", "-rm", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a file system of its own: unshare -rm is not possible here")
    command = ["unshare", "-rm", sys.executable, "-m", "tests.server.link.full_spool", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == ["MMF-486", 0, "2", "MMF-486", 0, "2"]
