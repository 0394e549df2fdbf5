"""What a program prints about an error does nothing to the terminal, whatever the error quotes."""

from __future__ import annotations

import pytest
import typer

from mmfed_common.command_line.program import run
from mmfed_common.errors import StudyError

HOSTILE = "key \x1b[2J\x1b]0;owned\x07 \u202egnol\u200b: unknown\n  second line"


@pytest.mark.parametrize("error", [StudyError("MMF-501", HOSTILE, HOSTILE), ValueError(HOSTILE)])
def test_quoted_text_cannot_steer_the_terminal(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise error

    assert run(app, "mmfed-test", []) != 0
    shown = capsys.readouterr().err
    assert "\\x1b[2J" in shown
    assert all(letter.isprintable() or letter == "\n" for letter in shown)
