"""A disk that is full at any moment: the run ends with a code and, when there is room, with the same bits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT

NO_MOUNT = "needs a file system of its own: unshare -rm is not possible here"


def run_on_small_disk(folder: Path, seed: int, *words: str) -> dict[str, Any]:
    """Run ``full_disk`` in a mount namespace of its own."""
    folder.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip(NO_MOUNT)
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip(NO_MOUNT)
    command = [
        "unshare",
        "-rm",
        sys.executable,
        "-m",
        "tests.server.rounds.full_disk",
        str(folder),
        str(seed),
    ]
    done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.e2e
def test_full_again_and_again_the_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    undisturbed = run_on_small_disk(tmp_path / "undisturbed", 0, "undisturbed")
    assert undisturbed["codes"] == []
    for seed in (1, 2):
        found = run_on_small_disk(tmp_path / f"full-{seed}", seed)
        assert found["faults"] > 3
        assert len(found["codes"]) > 1
        assert set(found["codes"]) <= {"MMF-508"}
        assert (found["digest"], found["rounds"]) == (undisturbed["digest"], undisturbed["rounds"])
