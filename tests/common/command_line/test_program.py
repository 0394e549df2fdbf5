"""What a program prints about an error does nothing to the terminal, whatever the error quotes."""

from __future__ import annotations

import pytest
import typer

from mmfed_common.command_line.program import INTERRUPTED, run
from mmfed_common.errors import StudyError

HOSTILE = "key \x1b[2J\x1b]0;owned\x07 \u202egnol\u200b: unknown\n  second line"


@pytest.mark.parametrize("error", [StudyError("MMF-501", HOSTILE, HOSTILE), ValueError(HOSTILE)])
def test_quoted_text_cannot_steer_the_terminal(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise error

    assert run(lambda: app, "mmfed-test", []) != 0
    shown = capsys.readouterr().err
    assert "\\x1b[2J" in shown
    assert all(letter.isprintable() or letter == "\n" for letter in shown)


def test_stopping_a_program_that_is_still_loading_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def load() -> typer.Typer:
        raise KeyboardInterrupt

    assert run(load, "mmfed-test", [], interrupted="Nothing was begun.") == INTERRUPTED
    assert capsys.readouterr().err == "Nothing was begun.\n"
