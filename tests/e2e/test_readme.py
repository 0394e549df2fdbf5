"""A newcomer's way: the commands of the README, and nothing else, to the first aggregated round."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.conftest import ROOT
from tests.e2e.consortium import write_consortium

from mmfed_server.coordinator.view import view_of
from mmfed_server.federation import Federation
from mmfed_simulations.processes.federation import BIN, ENVIRONMENT
from mmfed_simulations.processes.programs import Program, free_port, wait_until

MOST_COMMANDS = 3
SECONDS = 240.0
NAMES = ("north", "south", "west")


def written(program: str) -> list[list[str]]:
    """The commands of a program that the README's federation is made of."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if block.startswith(program)]
    return [shlex.split(line) for line in block.splitlines()]


def typed(words: list[str], folder: Path) -> None:
    """Run a command in a folder, answering yes if it asks."""
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        cwd=folder,
        input="y\n",
        capture_output=True,
        text=True,
        env={**os.environ, **ENVIRONMENT},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_three_sites_join_with_the_commands_of_the_readme(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = write_consortium(tmp_path / "consortium", 3, sites=3)
    office = tmp_path / "office"
    office.mkdir()
    shutil.copy(there.study, office)
    shutil.copy(there.study.parent / "knowledge.mmfk", office)
    address = f"127.0.0.1:{free_port()}"
    coordinator = [
        [word.replace("coordinator.example.org:8443", address) for word in words]
        for words in written("mmfed-server")
    ]
    site = written("mmfed-client")
    assert len(coordinator) <= MOST_COMMANDS
    assert len(site) <= MOST_COMMANDS
    with ExitStack() as running:

        def served(words: list[str], folder: Path) -> None:
            program = [str(BIN / words[0]), *words[1:]]
            running.enter_context(Program(program, folder / "log", ENVIRONMENT, folder))

        for words in coordinator[:-1]:
            typed(words, office)
        served(coordinator[-1], office)
        federation = Federation.load(office / "federation")
        wait_until(lambda: view_of(federation).served, SECONDS, "the start of the server")
        for name, cohort in zip(NAMES, there.cohorts.values(), strict=True):
            shutil.copy(office / "federation" / "kits" / f"{name}.kit", cohort)
            commands = [[word.replace("north.kit", f"{name}.kit") for word in words] for words in site]
            for words in commands[:-1]:
                typed(words, cohort)
            served(commands[-1], cohort)
        wait_until(lambda: view_of(federation).round >= 1, SECONDS, "the first round")
        totals = {entry["site"]: entry["rounds"] for entry in view_of(federation).sites}
    assert set(totals) == set(NAMES)
    assert min(totals.values()) >= 1
    with capsys.disabled():
        print("\ncoordinator:", *(" ".join(words) for words in coordinator), sep="\n  ")
        print("each site:", *(" ".join(words) for words in site), sep="\n  ")
