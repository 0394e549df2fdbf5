"""A federation on loopback, and the server as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmfed_common.command_line.program import DEFECT
from mmfed_server.federation import Federation

START_SECONDS = 60.0


def founded(folder: Path, port: int = 1, metrics_port: int = 0) -> Federation:
    """A federation in ``fed`` of a folder."""
    return Federation.create(
        folder / "fed",
        "demo",
        f"localhost:{port}",
        listen=f"127.0.0.1:{port}",
        metrics_port=metrics_port,
    )


class Server:
    """``mmfed-server start`` as a process."""

    def __init__(self, federation: Federation, *words: str) -> None:
        self.federation = federation
        command = [sys.executable, "-c", "from mmfed_server.cli import main; main()", "start", *words]
        self.process = subprocess.Popen(
            [*command, "--dir", str(federation.path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def status(self) -> dict[str, Any]:
        """What the process wrote last; empty before that."""
        try:
            content: dict[str, Any] = json.loads((self.federation.path / "status.json").read_text())
        except FileNotFoundError:
            return {}
        return content

    def wait_until(self, reached: Callable[[dict[str, Any]], bool], seconds: float = START_SECONDS) -> None:
        """Wait for a condition on what the process writes."""
        until = time.monotonic() + seconds
        while True:
            late = time.monotonic() > until  # before the look: the machine may have paused meanwhile
            status = self.status()
            if status.get("pid") == self.process.pid and reached(status):
                return
            if self.process.poll() is not None:
                raise AssertionError(f"it ended: {self.process.communicate()}")
            assert not late, f"not reached within {seconds} s: {status}"
            time.sleep(0.05)

    def end(self, number: int = signal.SIGTERM, seconds: float = 30.0) -> tuple[int, str, str]:
        """Send a signal; gives exit code, stdout and stderr."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=seconds)
        assert self.process.returncode != DEFECT, err
        return self.process.returncode, out, err


@contextmanager
def server(federation: Federation, *words: str) -> Iterator[Server]:
    """A server that does not outlive the block."""
    running = Server(federation, *words)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.communicate()
