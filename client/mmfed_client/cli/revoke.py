"""``mmfed-client revoke``: no more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from mmfed_client.cli.arguments import DEFAULT_HOME, Home, Person, home_at, person_or_account
from mmfed_common.command_line.output import AsJson, print_json, stdout

if TYPE_CHECKING:
    from mmfed_client.home import SiteHome

WAIT_SECONDS = 10.0
POLL_SECONDS = 0.1


def revoke(
    study: Annotated[
        str,
        typer.Argument(metavar="[STUDY]", help="The beginning of the study's hash. Default: every study."),
    ] = "",
    home: Home = DEFAULT_HOME,
    by: Person = "",
    as_json: AsJson = False,
) -> None:
    """Withdraw approval: a running node stops within seconds, and nothing more leaves.

    Waits until it has stopped; exit code 1 if the node was still there after 10 seconds.
    The withdrawal stands in the ledger; it can be followed by a new approval.

    Examples:

        mmfed-client revoke
        mmfed-client revoke 3f9a01 --by "Dr. Ada Okafor"
    """
    from mmfed_client.approval import revoke as record
    from mmfed_client.cli.choice import chosen_hash
    from mmfed_client.ledger import Ledger

    place = home_at(home)
    chosen = chosen_hash(place, study) if study else None
    entry = record(Ledger(place.ledger_file), person_or_account(by), chosen)
    began = time.monotonic()
    stopped = wait_until_stopped(place, chosen)
    seconds = time.monotonic() - began
    if as_json:
        answer = {"entry": entry.number, "study": chosen, "stopped": stopped, "seconds": seconds}
        print_json(answer)
    else:
        console = stdout()
        console.print(f"Approval is withdrawn: ledger entry {entry.number}.", markup=False)
        told = f"Nothing runs (after {seconds:.1f} s)." if stopped else "The node has not stopped yet."
        console.print(told, markup=False)
    if not stopped:
        raise typer.Exit(1)


def wait_until_stopped(home: SiteHome, study_hash: str | None) -> bool:
    """Wait until no node works on the study; approval is gone either way, so nothing leaves."""
    until = time.monotonic() + WAIT_SECONDS
    while _works(home, study_hash):
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _works(home: SiteHome, study_hash: str | None) -> bool:
    from mmfed_client.status import StatusFile
    from mmfed_client.supervisor.lock import is_held

    if not is_held(home.lock_file):
        return False
    status = StatusFile(home.status_file).read()
    if status is None or not status.node_pid:
        return False
    return study_hash in (None, status.study_hash)
