"""A person and a monitor watch a study: displays move, figures are local, logs know no patient."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from tests.e2e.damaged_site import start_damaged
from tests.e2e.test_people import ROUNDS, change, consortium, figures, of_site

from mmfed_simulations.processes.federation import BIN, ENVIRONMENT, Federation
from mmfed_simulations.processes.programs import Program, free_port, wait_until

SECONDS = 120.0
CTRL_C = b"\x03"
OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes the terminal the one that controls the program, so that its keys are signals."""
ROUND = re.compile(r"round (\d+) of (\d+)")


class Terminal:
    """A program in a terminal of its own, as a person has it."""

    def __init__(self, *words: str) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, str(BIN / words[0]), *words[1:]],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, **ENVIRONMENT, "TERM": "xterm", "COLUMNS": "160", "LINES": "40"},
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""

    def watch_until(self, seen: Callable[[str], bool], seconds: float) -> None:
        """Read what it shows until something is there."""
        until = time.monotonic() + seconds
        while not seen(self.shown):
            assert time.monotonic() < until, self.shown[-2000:]
            assert self._process.poll() is None, f"it ended too early:\n{self.shown[-2000:]}"
            if select.select([self._master], [], [], 0.5)[0]:
                with suppress(OSError):  # the program's end of the terminal is closed
                    self.shown += os.read(self._master, 1 << 16).decode("utf-8", "replace")

    def interrupt(self) -> int:
        """Press Ctrl-C; gives the exit code."""
        os.write(self._master, CTRL_C)
        until = time.monotonic() + 30.0
        while (code := self._process.poll()) is None:
            assert time.monotonic() < until, "Ctrl-C did not end it"
            if select.select([self._master], [], [], 0.2)[0]:
                with suppress(OSError):  # the program's end of the terminal is closed
                    self.shown += os.read(self._master, 1 << 16).decode("utf-8", "replace")
        os.close(self._master)
        return code


def rounds_shown(text: str) -> list[int]:
    """The rounds that a display has shown, each once."""
    return sorted({int(found[1]) for found in ROUND.finditer(text)})


def listens_on(program: Program, port: int) -> set[str]:
    """Addresses on which a program, with all that it started, listens at a port."""
    root = psutil.Process(program.process.pid)
    found = set()
    for process in (root, *root.children(recursive=True)):
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                found.add(connection.laddr.ip)
    return found


def other_addresses() -> list[str]:
    """Addresses of this machine beside loopback."""
    every = [a.address for many in psutil.net_if_addrs().values() for a in many if a.family == socket.AF_INET]
    return [address for address in every if not address.startswith("127.")]


def log_lines(file: Path) -> list[dict[str, Any]]:
    """A log; every line must be one JSON object."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert lines
    assert all(isinstance(line, dict) for line in lines)
    return lines


def patients(folder: Path) -> list[str]:
    """Names of a site's patients."""
    return [str(name) for name in pd.read_parquet(folder / "clinical.parquet")["patient_id"]]


def test_a_study_can_be_watched(tmp_path: Path) -> None:
    there = consortium(tmp_path / "consortium", 3, least=2)
    site, unlike, broken = there.cohorts
    server_port, site_port, unlike_port = free_port(), free_port(), free_port()
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation:
        federation.found()
        change(federation.home / "federation.toml", "metrics_port", f"metrics_port = {server_port}")
        federation.start_server()
        federation.wait_for_server()
        for name in there.cohorts:
            federation.join(name)
            federation.approve(name)
        federation.start_site(site, "--metrics", str(site_port))
        federation.start_site(unlike, "--metrics", str(unlike_port))
        start_damaged(federation, broken)
        home = str(federation.site_home(site))
        watches = [
            Terminal("mmfed-server", "status", "--watch", "--dir", str(federation.home)),
            Terminal("mmfed-client", "status", "--watch", "--home", home),
        ]
        for terminal in watches:
            terminal.watch_until(lambda shown: len([n for n in rounds_shown(shown) if n]) >= 3, SECONDS)
            assert f"of {ROUNDS}" in terminal.shown
        assert site in watches[0].shown
        wait_until(lambda: bool(of_site(federation, broken)["quarantined"]), SECONDS, "the quarantine")
        codes = [terminal.interrupt() for terminal in watches]
        assert codes == [0, 0]  # to stop looking is no failure
        assert not any("Traceback" in terminal.shown for terminal in watches)

        policy = federation.site_home(unlike) / "policy.toml"
        policy.write_text(policy.read_text(encoding="utf-8") + "\nmost_rounds = 3\n", encoding="utf-8")
        told = f'mmfed_client_errors_total{{code="MMF-326",site="{unlike}"}}'
        wait_until(lambda: figures(unlike_port).get(told, 0.0) >= 1.0, SECONDS, "the site's refusal")
        wait_until(lambda: federation.status()["state"] == "waiting", SECONDS, "the server's wait")
        at_server, at_site = figures(server_port), figures(site_port)
        assert at_server["mmfed_round"] >= 3
        assert at_server["mmfed_rounds"] == ROUNDS
        assert at_server[f'mmfed_site_online{{site="{site}"}}'] == 1.0
        assert at_server['mmfed_run_state{state="waiting"}'] == 1.0
        assert at_server[f'mmfed_updates_total{{site="{site}"}}'] >= 3
        refused = of_site(federation, broken)["quarantined"]
        assert at_server[f'mmfed_refusals_total{{code="{refused}",site="{broken}"}}'] >= 3
        assert at_site[f'mmfed_client_round{{site="{site}"}}'] >= 3
        assert at_site[f'mmfed_client_sent_bytes{{site="{site}"}}'] > 10_000

        assert federation.server is not None
        assert listens_on(federation.server, server_port) == {"127.0.0.1"}
        assert listens_on(federation.sites[site], site_port) == {"127.0.0.1"}
        for address in other_addresses():
            for port in (server_port, site_port):
                with pytest.raises(OSError, match=r".*"):
                    socket.create_connection((address, port), timeout=2.0)
        names = [name for folder in there.cohorts.values() for name in patients(folder)]
        assert len(names) == 120
        logs = [
            federation.home / "log.jsonl",
            *(federation.site_home(s) / "log.jsonl" for s in there.cohorts),
        ]
        for log in logs:
            lines = log_lines(log)
            assert len({line.get("level") for line in lines} - {None}) >= 1
            whole = log.read_text(encoding="utf-8")
            assert [name for name in names if name in whole] == []
