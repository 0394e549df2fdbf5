"""One process serves a federation; whoever only looks whether one does keeps nobody from starting."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmfed_common.errors import StudyError
from mmfed_server.coordinator import lock
from mmfed_server.coordinator.lock import LOCK_FILE, ServerLock, is_served


def test_one_serves_and_others_see_it(tmp_path: Path) -> None:
    assert not is_served(tmp_path)
    with ServerLock(tmp_path):
        assert is_served(tmp_path)
        with pytest.raises(StudyError) as caught, ServerLock(tmp_path):
            pass
        assert caught.value.code == "MMF-550"
    assert not is_served(tmp_path)


def test_a_look_does_not_keep_a_server_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = (tmp_path / LOCK_FILE).open("w")
    fcntl.flock(look, fcntl.LOCK_SH)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        look.close()

    monkeypatch.setattr(lock, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    with ServerLock(tmp_path):
        assert is_served(tmp_path)
    assert len(pauses) == 1
