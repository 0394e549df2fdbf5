"""``mmfed-client join``: become a site of a federation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mmfed_client.cli.arguments import DEFAULT_HOME, Home
from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_common.command_line.questions import answered_by


def join(
    kit: Annotated[Path, typer.Argument(metavar="KIT", help="The join kit that the coordinator gave you.")],
    home: Home = DEFAULT_HOME,
    cohort: Annotated[
        Path | None,
        typer.Option("--cohort", help="cohort.toml of this site; can be written into site.toml later."),
    ] = None,
    passphrase: Annotated[
        bool,
        typer.Option("--passphrase", help="Ask for a passphrase that protects the site's key."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Join a federation: make this site's key here, and learn who the coordinator is.

    The private key is made on this machine and never leaves it.
    Compare both fingerprints with the coordinator by telephone.
    The same command can be repeated if it was interrupted.
    Without --passphrase the variable MMFED_PASSPHRASE counts, if it is set.

    Examples:

        mmfed-client join north.kit --cohort /data/cohort.toml
        mmfed-client join north.kit --home /var/lib/mmfed --passphrase
    """
    from mmfed_client.enrolment import join as enrol
    from mmfed_client.home import SiteHome

    secret = os.environ.get("MMFED_PASSPHRASE") or None
    if passphrase and not secret:
        with answered_by("the variable MMFED_PASSPHRASE in place of --passphrase"):
            secret = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    result = enrol(kit, SiteHome(home), cohort, secret)
    if as_json:
        print_json(
            {
                "site": result.site,
                "federation": result.federation,
                "address": result.address,
                "fingerprint": result.fingerprint,
                "coordinator_fingerprint": result.coordinator_fingerprint,
                "home": str(result.home),
            }
        )
        return
    console = stdout()
    console.print(f"{result.site} has joined {result.federation} at {result.address}.", markup=False)
    console.print("Compare with the coordinator, by telephone:")
    console.print(f"  this site's key    {result.fingerprint}", markup=False, soft_wrap=True)
    console.print(f"  the coordinator's  {result.coordinator_fingerprint}", markup=False, soft_wrap=True)
    console.print(f"Home: {result.home}. Its policy.toml says what this site allows.", markup=False)
    if cohort is None:
        console.print('Write `cohort = "/path/to/cohort.toml"` into site.toml there.', markup=False)
    console.print("next: mmfed-client approve, then mmfed-client start", markup=False)
