"""``mmfed-server init``: found a federation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmfed_common.command_line.output import AsJson, print_json, stdout


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")],
    name: Annotated[str, typer.Option(help="What the federation is called.")],
    address: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where sites reach this server from outside.")
    ],
    names: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="HOST", help="A further name or IP address; may be given again."),
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="What to bind; default: every interface, same port.")
    ] = "",
    database: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Where runs are kept; default: SQLite in DIR. Or postgresql+pg8000://USER:PASSWORD@HOST/NAME.",
        ),
    ] = "",
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Prometheus, on this machine only; 0: none.")
    ] = 9464,
    as_json: AsJson = False,
) -> None:
    """Found a federation: certificate authority, server certificate, the key that signs studies, settings.

    Protect DIR as you would protect the keys to the building: whoever has `ca/ca.key` and `coordinator.key`
    is the coordinator. A passphrase for the key that signs studies is taken from MMFED_PASSPHRASE.

    Examples:

        mmfed-server init fed --name lung-consortium --address fed.example.org:8443
        mmfed-server init demo --name demo --address localhost:8443 --also 127.0.0.1 --listen 127.0.0.1:8443
    """
    import os

    from mmfed_server.federation import Federation
    from mmfed_server.federation.folder import PASSPHRASE_VARIABLE

    federation = Federation.create(
        folder,
        name,
        address,
        names or (),
        listen=listen,
        database=database,
        metrics_port=metrics_port,
        passphrase=os.environ.get(PASSPHRASE_VARIABLE) or None,
    )
    facts = {
        "federation": federation.name,
        "dir": str(folder),
        "address": federation.address,
        "listen": federation.config.listen,
        "names": federation.config.names,
        "coordinator_fingerprint": federation.coordinator_key.public.fingerprint,
    }
    if as_json:
        print_json(facts)
        return
    console = stdout()
    console.print(f"Federation {federation.name} is founded in {folder}.", markup=False)
    console.print("Sites can compare this fingerprint of your key, by telephone:", markup=False)
    console.print(f"  {facts['coordinator_fingerprint']}", markup=False, soft_wrap=True)
    console.print(f"next: mmfed-server enrol SITE … --dir {folder}", markup=False, soft_wrap=True)
