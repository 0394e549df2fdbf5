"""One node of one home, also when a supervisor was killed and its node was not."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmfed_client.supervisor.lock import NodeLock, is_held
from mmfed_common.errors import MachineError

HOLDER = """
import subprocess, sys
from pathlib import Path
from mmfed_client.supervisor.lock import NodeLock
lock = NodeLock(Path(sys.argv[1])).__enter__()
child = subprocess.Popen(["sleep", "60"], pass_fds=(lock.descriptor,), stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "node.lock"
    assert not is_held(path)
    with NodeLock(path):
        assert is_held(path)
        with pytest.raises(MachineError) as caught, NodeLock(path, patience=0.2):
            pytest.fail("two nodes of one home")
        assert caught.value.code == "MMF-110"
        assert str(os.getpid()) in caught.value.what
    assert not is_held(path)
    with NodeLock(path, patience=0.0):
        assert is_held(path)


def test_a_killed_supervisor_s_node_keeps_the_lock_until_it_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "node.lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    holder.kill()
    holder.wait()
    try:
        assert is_held(path)
    finally:
        os.kill(child, 9)
    with NodeLock(path, patience=10.0):
        assert is_held(path)


def test_two_who_ask_do_not_take_each_other_for_a_node(tmp_path: Path) -> None:
    path = tmp_path / "node.lock"
    with NodeLock(path):
        pass
    with open(path) as asks:
        fcntl.flock(asks, fcntl.LOCK_SH)  # as `is_held` does
        assert not is_held(path)
    with ThreadPoolExecutor(2) as pool:
        assert not any(pool.map(is_held, [path] * 2000))


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught, NodeLock(tmp_path / "missing" / "node.lock"):
        pytest.fail("no lock was taken")
    assert caught.value.code == "MMF-112"
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError) as caught:
        is_held(tmp_path / "file" / "node.lock")
    assert caught.value.code == "MMF-112"
