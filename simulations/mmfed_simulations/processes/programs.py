"""Programs as processes of their own: started, watched, killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from types import TracebackType

import psutil

from mmfed_common.errors import NetworkError

SAMPLE_SECONDS = 0.1
FAMILY_EVERY = 20
STOP_SECONDS = 60.0
MEGABYTE = 2.0**20


PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections, which could take one before it is used."""

_turns = count(os.getpid() * 997)
"""Where to look next: no port twice in a row, and processes that look at the same time begin apart."""


def free_port() -> int:
    """A loopback port that is free now, and not given again soon."""
    for turn in islice(_turns, len(PORTS)):
        port = PORTS[turn % len(PORTS)]
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise NetworkError("MMF-401", "no port of loopback is free", f"{PORTS.start} to {PORTS.stop - 1}")


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition.

    Raises
    ------
    NetworkError
        ``MMF-401`` when it has not come true in time.
    """
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise NetworkError("MMF-401", f"{what} did not happen within {seconds:g} s")
        time.sleep(0.05)


class Program:
    """A program with all that it starts; stopped at the end of the ``with`` block.

    Parameters
    ----------
    command
        What to run.
    log
        Where its output goes.
    environment
        Variables beside this process's own.
    folder
        Where it runs; by default where this process does.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path | None = None
    ) -> None:
        self.command, self.log = list(command), log
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self.peak_bytes = 0
        self._stopped = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the program itself still runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End the program and all that it started at once, as a loss of power would."""
        self._end((signal.SIGKILL,))

    def stop(self) -> None:
        """Ask the program to end; kill what has not ended in time."""
        self._end((signal.SIGTERM, signal.SIGKILL))

    def _end(self, signals: Sequence[signal.Signals]) -> None:
        self._stopped.set()
        self._watch.join()
        for sign in signals:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)

    def _sample(self) -> None:
        """Take the memory of the program and its children often, and look for new children seldom.

        To look for them all processes of the machine are read, which would take time from what is measured.
        """
        family: list[psutil.Process] = []
        looks = 0
        while not self._stopped.wait(SAMPLE_SECONDS):
            if looks % FAMILY_EVERY == 0:
                with suppress(psutil.Error):
                    root = psutil.Process(self.process.pid)
                    family = [root, *root.children(recursive=True)]
            looks += 1
            total = 0
            for process in family:
                with suppress(psutil.Error):
                    total += process.memory_info().rss
            self.peak_bytes = max(self.peak_bytes, total)
