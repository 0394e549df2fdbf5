"""A coordinator and its sites, each a process of its own, driven by the commands that people type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mmfed_client.home import SiteHome
from mmfed_client.ledger import Entry, Ledger
from mmfed_common.errors import NetworkError
from mmfed_server.coordinator.board import read_board
from mmfed_server.coordinator.view import view_of
from mmfed_server.database import open_database
from mmfed_server.federation import Federation as CoordinatorFolder
from mmfed_server.record.catalogue import RunCatalogue
from mmfed_simulations.processes.programs import Program, free_port, wait_until

BIN = Path(sys.executable).parent
COMMAND_SECONDS = 120.0
START_SECONDS = 90.0


class Federation:
    """Starts, kills and asks the processes of one federation; use as a context manager.

    Parameters
    ----------
    folder
        Empty; the federation's folder, the sites' homes, kits and logs go here.
    cohorts
        Site → folder with its ``cohort.toml``.
    study
        The study to run.
    """

    def __init__(self, folder: Path, cohorts: Mapping[str, Path], study: Path) -> None:
        self.folder, self.cohorts, self.study = folder, dict(cohorts), study
        self.port = free_port()
        self.home = folder / "federation"
        self.server: Program | None = None
        self.sites: dict[str, Program] = {}
        self.commands: list[tuple[str, ...]] = []
        """Every command that a person would have typed, in order; the first word is whose it is."""

    def __enter__(self) -> Federation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in [*self.sites.values(), *([self.server] if self.server else [])]:
            program.stop()

    def site_home(self, site: str) -> Path:
        """The home of a site."""
        return self.folder / "homes" / site

    def kit(self, site: str) -> Path:
        """The join kit of a site."""
        return self.home / "kits" / f"{site}.kit"

    def found(self) -> None:
        """Make the federation and a kit for each site."""
        self.type(
            "coordinator",
            "mmfed-server",
            *("init", str(self.home), "--name", "rehearsal", "--address", f"127.0.0.1:{self.port}"),
        )
        self.type("coordinator", "mmfed-server", "enrol", *self.cohorts, "--dir", str(self.home))

    def start_server(self, *options: str) -> None:
        """Start the coordinator's process."""
        words = ["start", "--dir", str(self.home), "--study", str(self.study), *options]
        self.commands.append(("coordinator", "mmfed-server", *words))
        self.server = self._start("mmfed-server", words, "server")

    def join(self, site: str) -> None:
        """Let a site make its key and enrol."""
        home, cohort = self.site_home(site), self.cohorts[site] / "cohort.toml"
        self.type(
            site,
            "mmfed-client",
            *("join", str(self.kit(site)), "--home", str(home), "--cohort", str(cohort)),
        )

    def redirect(self, site: str, port: int) -> None:
        """Let a site reach the server through another port of this machine from now on."""
        config = self.site_home(site) / "site.toml"
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace(f"127.0.0.1:{self.port}", f"127.0.0.1:{port}"), encoding="utf-8")

    def approve(self, site: str) -> None:
        """Approve, at a site, the study that is offered."""
        self.type(site, "mmfed-client", "approve", "--yes", "--home", str(self.site_home(site)))

    def start_site(self, site: str, *options: str) -> None:
        """Start a site's process."""
        words = ["start", "--home", str(self.site_home(site)), *options]
        self.commands.append((site, "mmfed-client", *words))
        self.sites[site] = self._start("mmfed-client", words, site)

    def assemble(self, *options: str) -> None:
        """Everything from nothing to a running study."""
        self.found()
        self.start_server(*options)
        self.wait_for_server()
        for site in self.cohorts:
            self.join(site)
            self.approve(site)
            self.start_site(site)

    def wait_for_server(self) -> None:
        """Wait until the server answers."""
        wait_until(lambda: bool(self.status()["served"]), START_SECONDS, "the start of the server")

    def wait_for(self, state: str, seconds: float) -> dict[str, Any]:
        """Wait until the run is in a state that the server itself writes; gives the status.

        Its file is looked at first: to read the database twenty times a second would slow down what runs.
        """

        def reached() -> bool:
            return read_board(self.home).get("state") == state and self.status()["state"] == state

        wait_until(reached, seconds, f"the state {state}")
        return self.status()

    def status(self) -> dict[str, Any]:
        """What ``mmfed-server status --json`` says."""
        return view_of(CoordinatorFolder.load(self.home)).to_json()

    def site_status(self, site: str) -> dict[str, Any]:
        """What ``mmfed-client status --json`` says at a site; empty before it has begun."""
        path = SiteHome(self.site_home(site)).status_file
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def record(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The rounds of the present run, and the totals of its sites, as the server keeps them."""
        engine = open_database(CoordinatorFolder.load(self.home).database_url)
        try:
            catalogue, run = RunCatalogue(engine), self.status()["run"]
            return catalogue.rounds(run), catalogue.sites(run)
        finally:
            engine.dispose()

    def ledger(self, site: str) -> list[Entry]:
        """The entries of a site's ledger."""
        return list(Ledger(SiteHome(self.site_home(site)).ledger_file).entries())

    def release(self, out: Path) -> Path:
        """Export the newest finished run; gives the file of its weights."""
        self.type(
            "coordinator",
            "mmfed-server",
            *("export", "latest", "--out", str(out), "--dir", str(self.home)),
        )
        return out / "weights.safetensors"

    def type(self, who: str, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a person would.

        Raises
        ------
        NetworkError
            ``MMF-401`` when it fails.
        """
        self.commands.append((who, program, *words))
        done = self.call(program, *words)
        if done.returncode:
            raise NetworkError("MMF-401", f"{program} {words[0]} failed: {done.stderr or done.stdout}")
        return done

    def call(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [str(BIN / program), *words],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            env={**os.environ, **ENVIRONMENT},
            check=False,
        )

    def _start(self, program: str, words: Sequence[str], name: str) -> Program:
        return Program([str(BIN / program), *words], self.folder / f"{name}.log", ENVIRONMENT)


ENVIRONMENT = {"NO_PROXY": "127.0.0.1,localhost", "OMP_NUM_THREADS": "1"}
