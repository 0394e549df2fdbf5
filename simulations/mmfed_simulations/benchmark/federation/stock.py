"""Stock Flower: its SuperLink, SuperNodes and command line as they come, with TLS and node authentication.

Its state stays in memory, which is its default and its fastest: with a database file of its own, twenty
nodes met "database is locked", HTTP 500, and the end of a node's loop.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives import serialization

from mmfed_common.errors import NetworkError
from mmfed_common.signing import SiteKey
from mmfed_simulations.benchmark.federation.byte_counter import ByteCounter
from mmfed_simulations.benchmark.federation.figures import Figures, figures_of
from mmfed_simulations.processes.programs import Program, free_port, wait_until

BIN = Path(sys.executable).parent
PYPROJECT = """[project]
name = "stock"
version = "1.0.0"

[tool.flwr.app]
publisher = "mmfed"

[tool.flwr.app.components]
serverapp = "mmfed_simulations.benchmark.federation.stock_app:server_app"
clientapp = "mmfed_simulations.benchmark.federation.stock_app:client_app"

[tool.flwr.app.config]
shapes = "{shapes}"
times = "{times}"
sites = {sites}
rounds = {rounds}
"""
CONNECTION = """[superlink]
default = "here"
[superlink.here]
address = "127.0.0.1:{port}"
root-certificates = "{ca}"
"""
READY_SECONDS = 120.0
ROUND_SECONDS = 300.0


def run_stock(shapes: list[list[int]], sites: int, rounds: int, certificates: Path, folder: Path) -> Figures:
    """Measure some rounds.

    Parameters
    ----------
    shapes
        Of the model's arrays (float32).
    certificates
        Folder with ``ca.pem``, ``server.pem`` and ``server.key`` for 127.0.0.1.
    folder
        Empty; logs and keys go here.

    Raises
    ------
    NetworkError
        ``MMF-401`` when the run does not end in time, with the last error that the SuperLink wrote.
    """
    port, times = free_port(), folder / "times.json"
    environment = {"FLWR_HOME": str(folder / "home"), "NO_PROXY": "127.0.0.1,localhost"}
    app = _write_app(folder, shapes, sites, rounds, times)
    _write_connection(folder, port, certificates)
    with ExitStack() as stack:
        counter = stack.enter_context(ByteCounter(port))
        server = stack.enter_context(
            Program(
                [
                    *(str(BIN / "flower-superlink"), "--host", "127.0.0.1", "--port", str(port)),
                    *("--ssl-ca-certfile", str(certificates / "ca.pem")),
                    *("--ssl-certfile", str(certificates / "server.pem")),
                    *("--ssl-keyfile", str(certificates / "server.key")),
                    *("--enable-supernode-auth", "--isolation", "subprocess"),
                    "--disable-runtime-dependency-installation",
                ],
                folder / "superlink.log",
                environment,
            )
        )
        for number in range(sites):
            _register(folder, number, environment)
            health = free_port()
            stack.enter_context(
                Program(
                    [
                        *(str(BIN / "flower-supernode"), "--superlink", f"127.0.0.1:{counter.port}"),
                        *("--root-certificates", str(certificates / "ca.pem")),
                        *("--auth-supernode-private-key", str(folder / f"site{number}")),
                        *("--host", "127.0.0.1", "--port", str(health), "--isolation", "subprocess"),
                    ],
                    folder / f"supernode{number}.log",
                    {**environment, "FLWR_HOME": str(folder / f"home{number}")},
                )
            )
        _flwr(["run", str(app), "here"], environment, folder)
        try:
            wait_until(times.exists, READY_SECONDS + rounds * ROUND_SECONDS, "the end of stock Flower's run")
        except NetworkError as error:
            raise NetworkError(error.code, f"{error.what}; {_last_error(folder)}", error.where) from None
        ends = json.loads(times.read_text())
        return figures_of(np.diff(ends).tolist(), server.peak_bytes, counter, sites)


def _last_error(folder: Path) -> str:
    lines = (folder / "superlink.log").read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if "ERROR" in line]
    return f"its SuperLink's last error: {errors[-1].strip()}" if errors else "its SuperLink wrote no error"


def _write_app(folder: Path, shapes: list[list[int]], sites: int, rounds: int, times: Path) -> Path:
    app = folder / "stock"
    app.mkdir()
    listed = folder / "shapes.json"
    listed.write_text(json.dumps(shapes))
    (app / "pyproject.toml").write_text(
        PYPROJECT.format(shapes=listed, times=times, sites=sites, rounds=rounds)
    )
    return app


def _write_connection(folder: Path, port: int, certificates: Path) -> None:
    home = folder / "home"
    home.mkdir()
    (home / "config.toml").write_text(CONNECTION.format(port=port, ca=certificates / "ca.pem"))


def _register(folder: Path, number: int, environment: dict[str, str]) -> None:
    """Make a node's key in the form that Flower's programs read, and register it."""
    key = SiteKey.generate()
    private = folder / f"site{number}"
    content = key.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    private.touch(0o600)
    private.write_bytes(content)
    public = key.public.key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (folder / f"site{number}.pub").write_bytes(public)
    arguments = ["supernode", "register", str(folder / f"site{number}.pub"), "here", "--name", f"s{number}"]

    def registered() -> bool:
        try:
            _flwr(arguments, environment, folder)
        except NetworkError:
            return False
        return True

    wait_until(registered, READY_SECONDS, "the start of the SuperLink")


def _flwr(arguments: list[str], environment: dict[str, str], folder: Path) -> None:
    done = subprocess.run(
        [str(BIN / "flwr"), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    with open(folder / "flwr.log", "a", encoding="utf-8") as log:
        log.write(done.stdout + done.stderr)
    if done.returncode:
        raise NetworkError("MMF-401", f"`flwr {arguments[0]}` failed", str(folder / "flwr.log"))
