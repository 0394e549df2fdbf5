"""``mmfed-server study submit|queue|drop``: studies run one after another, without a restart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_server.cli.arguments import FederationFolder, StudyFile, federation_in

if TYPE_CHECKING:
    from mmfed_server.federation import Federation
    from mmfed_server.studies.queue import Queued, StudyQueue

Again = Annotated[bool, typer.Option("--again", help="Begin another run of a study that has been finished.")]


def submit(
    file: StudyFile, again: Again = False, folder: FederationFolder = None, as_json: AsJson = False
) -> None:
    """Let a study run when those before it have ended: sign it, keep it, put it at the end of the queue.

    A server that runs goes on to it by itself; no site needs a restart. Sites can approve it ahead, with
    `mmfed-client approve`, while the study before it is still on. The queue outlives crashes and restarts.

    Examples:

        mmfed-server study submit second.toml --dir fed
        mmfed-server study submit study.toml --again
    """
    told = submitted(federation_in(folder), file, again=again)
    if as_json:
        print_json(told)
        return
    console = stdout()
    where = "is on" if told["place"] == 1 else f"is number {told['place']} in the queue"
    console.print(f"{told['name']} {told['study'][:12]} {where}.", markup=False)
    after = "The server that runs goes on to it by itself." if told["served"] else "Next: mmfed-server start"
    console.print(f"Sites can approve it now: mmfed-client approve. {after}", markup=False)


def queue(folder: FederationFolder = None, as_json: AsJson = False) -> None:
    """List the studies that are on or wait, in their order.

    Examples:

        mmfed-server study queue --dir fed
    """
    with _queue(federation_in(folder)) as found:
        entries = found.entries()
    if as_json:
        print_json({"queue": [as_dict(entry, place) for place, entry in enumerate(entries, start=1)]})
        return
    console = stdout()
    if not entries:
        console.print("No study is on, and none waits.", markup=False)
    for place, entry in enumerate(entries, start=1):
        since = entry.submitted[:16].replace("T", " ")
        text = f"{place}. {entry.study_name} {entry.study_hash[:12]}, submitted {since} UTC"
        console.print(text, markup=False)


def drop(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="The beginning of its hash, as `study queue` shows it.")
    ],
    folder: FederationFolder = None,
    as_json: AsJson = False,
) -> None:
    """Take a study off the queue. One that is on ends after its present round and keeps what it has.

    Submitted again, its run goes on after its last whole round.

    Examples:

        mmfed-server study drop 3f9a01 --dir fed
    """
    from mmfed_common.errors import StudyError

    with _queue(federation_in(folder)) as found:
        fitting = [entry for entry in found.entries() if entry.study_hash.startswith(study)]
        if len(fitting) != 1:
            raise StudyError("MMF-559", f"{len(fitting)} studies of the queue begin with {study!r}")
        found.drop(fitting[0].study_hash)
    if as_json:
        print_json({"study": fitting[0].study_hash, "name": fitting[0].study_name})
    else:
        named = f"{fitting[0].study_name} {fitting[0].study_hash[:12]}"
        stdout().print(f"{named} is taken off the queue.", markup=False)


def submitted(federation: Federation, file: Path, *, again: bool = False) -> dict[str, Any]:
    """Sign and keep a study and put it into the queue; gives what to say about it.

    Raises
    ------
    StudyError
        ``MMF-558`` when it has been finished and ``again`` is not set; otherwise as
        :meth:`~mmfed_server.studies.shelf.StudyShelf.put`.
    """
    from mmfed_common.errors import StudyError
    from mmfed_server.coordinator.lock import is_served
    from mmfed_server.record.catalogue import RunCatalogue, newest_run
    from mmfed_server.studies.shelf import StudyShelf

    study, _ = StudyShelf(federation).put(file)
    with _queue(federation) as found:
        newest = newest_run(RunCatalogue(found.engine), study.hash)
        if newest is not None and newest.status == "finished" and not again:
            raise StudyError("MMF-558", f"run {newest.run}", study.study.name)
        found.put_last(study, again=again)
        place = [entry.study_hash for entry in found.entries()].index(study.hash) + 1
    return {
        "study": study.hash,
        "name": study.study.name,
        "place": place,
        "served": is_served(federation.path),
    }


def as_dict(entry: Queued, place: int) -> dict[str, Any]:
    """An entry for machines."""
    return {
        "place": place,
        "study": entry.study_hash,
        "name": entry.study_name,
        "submitted": entry.submitted,
        "again": entry.again,
    }


@contextmanager
def _queue(federation: Federation) -> Iterator[StudyQueue]:
    from mmfed_server.database import open_database
    from mmfed_server.studies.queue import StudyQueue

    engine = open_database(federation.database_url)
    try:
        yield StudyQueue(engine)
    finally:
        engine.dispose()
