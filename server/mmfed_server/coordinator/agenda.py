"""What a server runs, one study after another: the head of the queue is the study on offer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from mmfed_common.errors import MmfedError, StudyError
from mmfed_common.signed_study import SignedStudy
from mmfed_common.study import Study
from mmfed_server.federation import Offers
from mmfed_server.record.catalogue import RunCatalogue, newest_run
from mmfed_server.studies import StudyShelf
from mmfed_server.studies.queue import Queued, StudyQueue

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Turn:
    """A study whose turn it is, and its entry in the queue."""

    entry: Queued
    study: Study


@dataclass(frozen=True)
class Agenda:
    """Takes studies from the queue and puts them on offer.

    Attributes
    ----------
    shelf, queue, offers, catalogue
        The kept studies, their order, what sites are told, and the runs that there were.
    """

    shelf: StudyShelf
    queue: StudyQueue
    offers: Offers
    catalogue: RunCatalogue

    def begin(self, study_file: Path | None, *, again: bool = False) -> None:
        """Take note of what ``start`` was given, or of what was on when there is nothing in the queue.

        A study that has been finished does not hold up those that wait.

        Raises
        ------
        MmfedError
            What :meth:`StudyShelf.put` and :meth:`StudyShelf.offered` raise.
        """
        waiting = self.queue.head() is not None
        if study_file is not None:
            study, _ = self.shelf.put(study_file)
            newest = newest_run(self.catalogue, study.hash)
            if waiting and not again and newest is not None and newest.status == "finished":
                return
            self.queue.put_first(study, again=again)
        elif not waiting and (signed := self.shelf.offered()) is not None:
            self.queue.put_first(self.shelf.open(signed))

    def next(self) -> Turn | None:
        """Put the first study of the queue on offer; None when there is none.

        Raises
        ------
        StudyError
            ``MMF-508`` when that cannot be written down, ``MMF-530`` when the queue cannot be read.
        UnofferableError
            When the study itself cannot be offered.
        """
        entry = self.queue.head()
        if entry is None:
            return None
        try:
            study = self.shelf.open(self.shelf.kept(entry.study_hash))
            self.offers.put(self.shelf.offer(study), self.shelf.pack_of(study))
        except OSError as error:
            where = str(self.shelf.federation.path)
            raise StudyError("MMF-508", f"cannot be written: {error.strerror}", where) from None
        except MmfedError as error:
            raise UnofferableError(entry, error) from None
        return Turn(entry, study)

    def done(self, turn: Turn) -> None:
        """Take a study whose run has ended out of the queue, unless a run that replaces it is ready."""
        self.queue.done(turn.entry)
        newest = newest_run(self.catalogue, turn.study.hash)
        if newest is not None and newest.status == "prepared":
            self.queue.put_last(turn.study)

    def waiting(self) -> list[SignedStudy]:
        """The studies behind the one on offer, in their order: sites may approve them ahead."""
        current = self.offers.current
        found = []
        for entry in self.queue.entries():
            if current is None or entry.study_hash != current.hash:
                try:
                    found.append(self.shelf.kept(entry.study_hash))
                except MmfedError as error:  # it is said when its turn comes
                    logger.warning("a study that waits cannot be shown: %s", error)
        return found


class UnofferableError(Exception):
    """The study whose turn it is cannot be offered.

    Attributes
    ----------
    entry, error
        Which, and why.
    """

    def __init__(self, entry: Queued, error: MmfedError) -> None:
        super().__init__(str(error))
        self.entry, self.error = entry, error
