"""The help of all three programs says what each argument is, not only its name."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
import typer
from typer.testing import CliRunner

from mmfed_client.cli.app import app as client
from mmfed_server.cli.app import app as server
from mmfed_simulations.cli.app import app as simulate

APPS = {"mmfed-client": client, "mmfed-server": server, "mmfed-simulate": simulate}


def arguments(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every argument of a program: the words of its command, and the name of the argument."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from arguments(inner, (*path, name))
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            yield path, str(parameter.name)


ALL = [
    (program, path, name)
    for program, app in APPS.items()
    for path, name in arguments(typer.main.get_command(app), ())
]


def test_there_are_arguments() -> None:
    assert {program for program, _, _ in ALL} == set(APPS)
    assert len(ALL) >= 12


@pytest.mark.parametrize(("program", "path", "name"), ALL, ids=lambda value: str(value))
def test_each_argument_is_explained(program: str, path: tuple[str, ...], name: str) -> None:
    shown = CliRunner().invoke(APPS[program], [*path, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    panel = shown.output.split("Arguments", 1)[1].split("Options", 1)[0]
    (row,) = [line for line in panel.splitlines() if f" {name} " in line]
    words = row.strip("│ *").replace("[required]", "").split()
    assert len(words) >= 4, f"{row!r} has a name, a form and no explanation"
