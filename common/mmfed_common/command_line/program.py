"""The program: runs a command, and turns whatever ends it into a message and an exit code."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated

import click
import typer
from rich.console import Console

from mmfed_common.errors import MmfedError

INTERRUPTED = 130
DEFECT = 70
WRONG_USAGE = 64
DEBUG = "--debug"

RESUME = "Interrupted. The last whole round is safe: the same command with --resume goes on."


def make_app(name: str, purpose: str, first_words: str) -> typer.Typer:
    """Make a program without commands.

    Parameters
    ----------
    purpose
        What it is for, in a sentence or two; stands above its commands in ``--help``.
    first_words
        What to type first; stands below them, in Rich's markup.
    """
    app = typer.Typer(
        name=name,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(help=purpose, epilog=first_words)
    def _root(
        debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error.")] = False,
    ) -> None: ...

    return app


def run(
    open_app: Callable[[], typer.Typer], name: str, arguments: Sequence[str], interrupted: str = RESUME
) -> int:
    """Run one command of a program.

    Parameters
    ----------
    open_app
        Imports the program's commands; called here, so that a person may stop that too.
    name
        What the program is called.
    arguments
        The words after the program's name.
    interrupted
        What to say when a person stops it.

    Returns
    -------
    The exit code: 0 on success, the family of the error's code (2 for ``MMF-2xx`` …), 64 for wrong usage,
    70 for a defect, 130 when interrupted.
    """
    debug = DEBUG in arguments
    rest = [argument for argument in arguments if argument != DEBUG]
    try:
        code = open_app()(args=rest, prog_name=name, standalone_mode=False)
    except MmfedError as error:
        if debug:
            traceback.print_exc()
        _tell_error(error, as_json="--json" in rest)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return WRONG_USAGE
    except click.Abort:
        print("A question was not answered; --help names what answers it beforehand.", file=sys.stderr)
        return WRONG_USAGE
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a defect becomes a report
        _tell_defect(error, debug=debug)
        return DEFECT
    if code == INTERRUPTED:
        print(interrupted, file=sys.stderr)
    return code if isinstance(code, int) else 0


def _tell_error(error: MmfedError, *, as_json: bool) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]{error.code}[/] ", end="")
    where = f" ({error.where})" if error.where else ""
    console.print(_shown(f"{error.what}{where}"), markup=False)
    console.print(f"  next: {error.next_step}", markup=False)
    if as_json:
        content = {"code": error.code, "what": error.what, "where": error.where, "next_step": error.next_step}
        print(json.dumps({"error": content}))


def _shown(text: str) -> str:
    """A text as a terminal may show it: an error may quote a document that came from outside."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _tell_defect(error: Exception, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    what = f"{type(error).__name__}: {_shown(str(error))}"
    print(f"mmfed met something it did not expect: {what}", file=sys.stderr)
    print(
        "  next: this is a defect. Run the same command with --debug and report what it prints, "
        "with the study file and without patient data.",
        file=sys.stderr,
    )
