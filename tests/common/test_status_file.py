"""A status can be written on a full disk, too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import ROOT

ON_FULL_DISK = """
import json, sys
from pathlib import Path
from tests.server.rounds.full_disk import fill, mount
from mmfed_common.durable import write_status
folder = Path(sys.argv[1])
mount(folder)
path = folder / "status.json"
write_status(path, json.dumps({"state": "running"}))
fill(folder / "ballast", 0)
write_status(path, json.dumps({"state": "failed", "code": "MMF-508"}))
print(path.read_text())
(folder / "ballast").unlink()
write_status(path, json.dumps({"state": "running"}))
assert sorted(p.name for p in folder.iterdir()) == ["status.json"]
"""


@pytest.mark.slow
def test_a_full_disk_keeps_nobody_from_saying_so(tmp_path: Path) -> None:
    try:
        subprocess.run(["unshare", "-rm", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a file system of its own: unshare -rm is not possible here")
    command = ["unshare", "-rm", sys.executable, "-c", ON_FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == {"state": "failed", "code": "MMF-508"}
