"""The node's process as the supervisor holds it: started, listened to, and ended for certain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmfed_client.node.reports import parse_report

GRACE_SECONDS = 3.0
"""How long a node may take to say goodbye to the server before it is killed."""

Deliver = Callable[[int, dict[str, Any] | None], None]
"""Takes a process number with one report of it; None: the process has ended."""


class NodeProcess:
    """A running node.

    Parameters
    ----------
    home
        The site's home.
    study_hash
        The one study that this process may work on.
    passphrase
        Of the site's key; it goes through a pipe, so that it stands in no list of processes.
    errors
        File for what the process prints on stderr; begun anew.
    inherit
        Descriptor of the node's lock.
    deliver
        Called from another thread with every report.
    """

    def __init__(
        self,
        home: Path,
        study_hash: str,
        passphrase: str | None,
        errors: Path,
        inherit: int,
        deliver: Deliver,
    ) -> None:
        command = [sys.executable, "-m", "mmfed_client.node", "--home", str(home), "--study", study_hash]
        descriptor = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=descriptor,
                pass_fds=(inherit,),
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        self.study_hash = study_hash
        self.started = time.monotonic()
        self._deliver = deliver
        self._tell_passphrase(passphrase or "")
        self._reader = threading.Thread(target=self._read, name="node reports", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it lives, negative for a signal."""
        return self._process.poll()

    def stop(self, grace: float = GRACE_SECONDS) -> int:
        """Ask it to end, and kill it if it has not within ``grace`` seconds; gives the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                return self.kill()
        return self._finished()

    def kill(self) -> int:
        """End it at once, with whatever it started."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):  # it ended just now
                os.killpg(self._process.pid, signal.SIGKILL)
        return self._finished()

    def _finished(self) -> int:
        code = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code

    def _tell_passphrase(self, passphrase: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{passphrase}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it ended already: the reader finds that out

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                report = parse_report(line.decode("utf-8", "replace"))
                if report is not None:
                    self._deliver(self._process.pid, report)
        self._process.wait()
        self._deliver(self._process.pid, None)
