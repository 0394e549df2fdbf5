"""``mmfed-server start``: serve, and run a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmfed_common.command_line.output import AsJson, print_json
from mmfed_server.cli.arguments import FederationFolder, federation_in
from mmfed_server.cli.queue import submit


def start(
    study: Annotated[
        Path | None,
        typer.Option("--study", metavar="FILE", help="study.toml; default: the study that was on."),
    ] = None,
    folder: FederationFolder = None,
    again: Annotated[
        bool, typer.Option("--again", help="Begin another run of a study that has been finished.")
    ] = False,
    exit_when_done: Annotated[
        bool, typer.Option("--exit-when-done", help="End when nothing is left to run.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Serve the federation, and run the study as soon as enough sites are there.

    Signs the study if it is not signed yet, offers it to the sites, and waits for those that approve it. A
    run that was interrupted, by whatever, goes on by itself after its last whole round: start the server
    again with the same command, or without --study. It stays up when the run is over, until it is stopped
    with Ctrl-C or SIGTERM. Sites can be enrolled, revoked and rotated meanwhile; look with `mmfed-server
    status`.

    Examples:

        mmfed-server start --study study.toml --dir fed
        mmfed-server start --dir fed
        mmfed-server start --study study.toml --dir fed --exit-when-done
    """
    from mmfed_common.flower_environment import quiet_flower
    from mmfed_server.coordinator.lock import is_served
    from mmfed_server.coordinator.process import Coordinator, stop_on_signals
    from mmfed_server.rounds.heap import bound_heap

    federation = federation_in(folder)
    if study is not None and not exit_when_done and is_served(federation.path):
        submit(study, again=again, folder=folder, as_json=as_json)
        return
    bound_heap()
    coordinator = Coordinator(federation)
    coordinator.noticed = stop_on_signals(coordinator.stop)
    with quiet_flower():
        outcome = coordinator.serve(study, again=again, exit_when_done=exit_when_done, quiet=as_json)
    if exit_when_done and outcome.error is not None:
        raise outcome.error
    if as_json:
        print_json({"state": outcome.state, "run": outcome.run})
