"""``mmfed-server export``: release a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_server.cli.arguments import FederationFolder, federation_in
from mmfed_server.cli.runs import RunName


def export(
    run: RunName,
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="New folder for the bundle.")],
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Take the last whole round of a run that goes on.")
    ] = False,
    folder: FederationFolder = None,
    as_json: AsJson = False,
) -> None:
    """Release a run's model as a bundle: weights, scaling, study, model card, metrics, and the hash of each.

    RUN may be `latest`: the newest finished run. Nothing in the bundle is pickled. A run that holds what a
    site contributed that has withdrawn since, or that was replaced, is released with a warning, which also
    stands on the model card.

    Examples:

        mmfed-server export latest --out lung-model --dir fed
        mmfed-server export lung-20260501-101500-ab12cd34 --out lung-model
    """
    from mmfed_server.coordinator.release import release, warnings_about

    federation = federation_in(folder)
    bundle, name = release(federation, run, out, unfinished=unfinished)
    warnings = warnings_about(federation, name)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        named = {"run": name, "bundle": str(out), "hash": bundle.hash, "study": bundle.study.hash}
        print_json({**named, "warnings": warnings})
    else:
        stdout().print(f"Wrote {out} of run {name}, bundle {bundle.hash[:12]}.", markup=False)
