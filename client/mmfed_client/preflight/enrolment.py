"""The item of the coordinator's portal, and what is fetched from it when nothing is here yet."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from mmfed_client.enrolment import PortalClient
from mmfed_client.preflight.finding import Finding, not_applicable, ok, warning
from mmfed_client.preflight.subject import Subject
from mmfed_common.durable import write_durably
from mmfed_common.errors import MmfedError, NetworkError

LOGGER = logging.getLogger(__name__)


def enrolled(subject: Subject) -> Iterator[Finding]:
    """Whether the server knows this site's key, and which study it offers."""
    try:
        client = PortalClient(subject.home)
    except NetworkError as error:
        yield not_applicable(f"the site cannot sign its request: {error.what}", error.where)
        return
    offer = client.offer()
    where = subject.shown_address
    if offer is None:
        yield ok("the server knows this site; no study is offered now", where)
        return
    try:
        own = subject.signed
    except NetworkError:
        own = None
    if own is not None and own.hash != offer.hash and subject.given is None:
        what = f"the study {offer.hash[:16]}… is offered, the one here is {own.hash[:16]}…"
        repair = "Look at the new study with `mmfed-client review`."
        yield warning("MMF-332", what, where, repair)
        return
    yield ok(f"the server knows this site and offers the study {offer.hash[:16]}…", where)


def fetch_offer(subject: Subject, folder: Path, seconds: float) -> None:
    """Fetch the study on offer and its knowledge pack where none is here; a failure is the items' to report.

    Parameters
    ----------
    folder
        Where the study is put; packs go into the home, as when the node fetches them.
    """

    def work() -> None:
        try:
            client = PortalClient(subject.home)
            if subject.study_file is None:
                _put(client, subject, folder)
            reference = None if subject.study is None else subject.study.contract.knowledge
            if reference is not None and subject.pack is None:
                client.fetch_pack(reference.sha256)
        except (MmfedError, OSError) as error:
            LOGGER.info("nothing was fetched: %s", error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder for what is fetched; only this user may read it."""
    return tempfile.TemporaryDirectory(prefix="mmfed-check-")


def _put(client: PortalClient, subject: Subject, folder: Path) -> None:
    offer = client.offer()
    if offer is None:
        return
    file = folder / f"{offer.hash}.json"
    write_durably(file, offer.to_json().encode(), 0o600)
    subject.offered = file
