"""Arguments that several commands share, and what they stand for."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmfed_common.command_line.questions import answered_by
from mmfed_common.errors import NetworkError

if TYPE_CHECKING:
    from mmfed_client.home import SiteHome

Home = Annotated[
    Path,
    typer.Option(
        "--home",
        metavar="DIR",
        envvar="MMFED_HOME",
        show_default="./mmfed-site",
        help="The site's home: key, policy, ledger, state.",
    ),
]
DEFAULT_HOME = Path("mmfed-site")

Person = Annotated[
    str,
    typer.Option(
        "--by", metavar="NAME", help="Who decides; stands in the ledger. Default: this account's name."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def home_at(path: Path) -> SiteHome:
    """The home, which must have joined.

    Raises
    ------
    NetworkError
        ``MMF-423`` when it has not.
    """
    from mmfed_client.home import SiteHome

    home = SiteHome(path)
    if not home.joined:
        raise NetworkError("MMF-423", "no site has joined here", str(path))
    return home


def person_or_account(person: str) -> str:
    """The name given, or that of the account."""
    return person or getpass.getuser()


def key_passphrase(home: SiteHome) -> str | None:
    """The passphrase of the site's key: from the environment, or asked for where a person can answer.

    Raises
    ------
    NetworkError
        ``MMF-411`` to ``MMF-413`` when the key cannot be read with it.
    """
    given = os.environ.get("MMFED_PASSPHRASE") or None
    try:
        home.key(given)
    except NetworkError as error:
        if error.code != "MMF-413" or given or not sys.stdin.isatty():
            raise
        given = getpass.getpass("Passphrase of the site's key: ")
        home.key(given)
    return given


def confirm(question: str, yes: bool) -> None:
    """Ask a person; without one to ask, ``--yes`` must have been given (wrong usage otherwise).

    Raises
    ------
    typer.Exit
        1 when the answer is no.
    """
    if yes:
        return
    with answered_by("--yes"):
        agreed = typer.confirm(question, err=True)
    if not agreed:
        raise typer.Exit(1)
