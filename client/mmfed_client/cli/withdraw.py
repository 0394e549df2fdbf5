"""``mmfed-client withdraw``: leave a study for good, and say so to the coordinator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mmfed_client.cli.arguments import (
    DEFAULT_HOME,
    Home,
    Person,
    Yes,
    confirm,
    home_at,
    key_passphrase,
    person_or_account,
)
from mmfed_common.command_line.output import AsJson, print_json, stdout

if TYPE_CHECKING:
    from mmfed_client.home import SiteHome
    from mmfed_client.ledger import Ledger

WITHDRAWAL = "withdrawal"


def withdraw(
    study: Annotated[
        str,
        typer.Argument(
            metavar="[STUDY]", help="The beginning of the study's hash. Default: what was approved last."
        ),
    ] = "",
    home: Home = DEFAULT_HOME,
    by: Person = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Leave a study: approval is withdrawn, and the coordinator is told to take nothing of it any more.

    Unlike `revoke`, which only stops this site's part for as long as people here want. What the site has
    contributed already is in the study's models; only the coordinator can train them again without it, and
    `mmfed-client ledger show --study HASH` lists what it was. If the coordinator cannot be reached, approval
    is withdrawn all the same: type the command again later.

    Examples:

        mmfed-client withdraw
        mmfed-client withdraw 3f9a01 --by "Dr. Ada Okafor"
    """
    from mmfed_client.approval import revoke
    from mmfed_client.approval.decisions import state_of
    from mmfed_client.cli.revoke import wait_until_stopped
    from mmfed_client.enrolment import PortalClient
    from mmfed_client.ledger import Ledger

    place = home_at(home)
    ledger = Ledger(place.ledger_file)
    chosen = _chosen(place, ledger, study)
    confirm(f"Leave study {chosen[:12]} and tell the coordinator?", yes or as_json)
    person = person_or_account(by)
    if state_of(ledger, chosen).people:
        revoke(ledger, person, chosen)
    stopped = wait_until_stopped(place, chosen)
    PortalClient(place, key_passphrase(place)).withdraw(chosen)
    entry = ledger.append(WITHDRAWAL, {"study": chosen, "person": person})
    if as_json:
        print_json({"entry": entry.number, "study": chosen, "stopped": stopped})
    else:
        console = stdout()
        console.print(f"This site has left study {chosen[:12]}: ledger entry {entry.number}.", markup=False)
        shown = f"mmfed-client ledger show --study {chosen[:12]}"
        console.print(f"What it contributed before: {shown}", markup=False, soft_wrap=True)
    if not stopped:
        raise typer.Exit(1)


def _chosen(home: SiteHome, ledger: Ledger, choice: str) -> str:
    from mmfed_client.approval import last_approved
    from mmfed_client.cli.choice import chosen_hash
    from mmfed_common.errors import MachineError

    if choice:
        return chosen_hash(home, choice)
    found = last_approved(ledger)
    if found is None:
        raise MachineError("MMF-114", "no study was ever approved here", str(home.ledger_file))
    return found
