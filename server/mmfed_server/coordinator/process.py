"""The process that serves a federation and runs its studies, from start to stop."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mmfed_common.errors import MmfedError, NetworkError
from mmfed_server.coordinator.agenda import Agenda, Turn, UnofferableError
from mmfed_server.coordinator.board import Board
from mmfed_server.coordinator.keeper import Keeper
from mmfed_server.coordinator.lock import ServerLock
from mmfed_server.coordinator.reply_bound import ROOM
from mmfed_server.coordinator.service import DROPPED, SUPERSEDED, Outcome, RunService
from mmfed_server.database import open_database
from mmfed_server.federation import Federation, Offers, SiteRegistry
from mmfed_server.link.link import Link
from mmfed_server.logs import logging_to, tell
from mmfed_server.monitoring import LOOPBACK, Metrics
from mmfed_server.plan import RoundReport
from mmfed_server.portal import make_portal
from mmfed_server.record.catalogue import RunCatalogue
from mmfed_server.studies import StudyShelf
from mmfed_server.studies.queue import StudyQueue

LOOK_SECONDS = 1.0
"""How often to look whether there is something to run."""
STOPPING_SECONDS = 5
"""How long a round may take to notice that the process is to stop, before it is interrupted."""


@dataclass
class Coordinator:
    """Serves a federation.

    Attributes
    ----------
    federation
        Which.
    progress
        Called after each round.
    stop
        Set it, from any thread, to stop in good order.
    noticed
        Called when the work is over and only tidying up is left: nothing need be interrupted any more.
    """

    federation: Federation
    progress: Callable[[RoundReport], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    noticed: Callable[[], None] = lambda: None

    def serve(
        self,
        study_file: Path | None = None,
        *,
        again: bool = False,
        exit_when_done: bool = False,
        quiet: bool = False,
    ) -> Outcome:
        """Serve until :attr:`stop` is set; run what is in the queue, one study after another.

        Parameters
        ----------
        study_file
            Is put at the head of the queue; it is signed and kept first, if it is not yet. None: go on with
            the queue, or with the study that was on.
        again
            Begin a new run of a study that has been finished.
        exit_when_done
            Come back when the queue is empty.
        quiet
            Log to the file only.

        Returns
        -------
        How the last run ended, or the first that failed.

        Raises
        ------
        MmfedError
            What kept it from serving; what ends a run is in the outcome instead.
        """
        folder = self.federation.path
        with ExitStack() as stack:
            stack.enter_context(ServerLock(folder))
            stack.enter_context(logging_to(folder, quiet=quiet))
            shelf = StudyShelf(self.federation)
            metrics = Metrics()
            board = Board(folder, metrics)
            board.note(federation=self.federation.name, public=self.federation.address)
            engine = open_database(self.federation.database_url)
            stack.callback(engine.dispose)
            registry, offers, queue = SiteRegistry(engine), Offers(self.federation), StudyQueue(engine)
            agenda = Agenda(shelf, queue, offers, RunCatalogue(engine))
            agenda.begin(study_file, again=again)
            offers.trouble = lambda: str(board.get("code") or "")
            offers.waiting = agenda.waiting
            with suppress(UnofferableError):  # said when the port is open
                agenda.next()
            link = stack.enter_context(self._link(registry, offers))
            board.note(listens=link.address, metrics=self._serve_metrics(stack, metrics))
            keeper = stack.enter_context(Keeper(self.federation, registry, link, board, metrics))
            tell("serving", federation=self.federation.name, listens=link.address, pid=board.get("pid"))
            service = RunService(
                self.federation,
                engine,
                registry,
                board,
                metrics,
                keeper,
                shelf,
                queue,
                self.stop,
                self.stop.wait,
                self.progress,
            )
            outcome = self._work(service, agenda, link, exit_when_done=exit_when_done)
            self.noticed()
            if outcome.state in ("idle", "waiting", "running"):
                board.set_state("stopped")
            tell("stopped serving", state=outcome.state)
            return outcome

    def _work(self, service: RunService, agenda: Agenda, link: Link, *, exit_when_done: bool) -> Outcome:
        """Run one study after another until the process is to stop, or the queue is empty."""
        if agenda.queue.head() is None:
            service.board.set_state("idle")
            tell("no study is on", next="mmfed-server start --study FILE")
        ended = [Outcome("idle")]
        try:
            self._work_off(service, agenda, link, ended, exit_when_done=exit_when_done)
        except KeyboardInterrupt:  # between two runs, or while one was prepared
            if not self.stop.is_set():
                raise
            service.board.set_state("stopped")
            ended.append(Outcome("stopped", str(service.board.get("run") or "")))
        return next((outcome for outcome in ended if outcome.state == "failed"), ended[-1])

    def _work_off(
        self, service: RunService, agenda: Agenda, link: Link, ended: list[Outcome], *, exit_when_done: bool
    ) -> None:
        """Add to ``ended`` how each run ended."""
        while not self.stop.is_set():
            turn: Turn | None = None
            try:
                turn = agenda.next()
            except UnofferableError as unofferable:
                ended.append(service.refuse(unofferable.entry, unofferable.error))
                agenda.queue.drop(unofferable.entry.study_hash)
            except MmfedError as error:
                if exit_when_done:
                    raise
                self._tell_trouble(error)
            else:
                if turn is None and exit_when_done:
                    break
            if turn is None:
                self.stop.wait(LOOK_SECONDS)
                continue
            outcome = service.run(link.grid(), turn)
            ended.append(outcome)
            if outcome.state not in ("stopped", SUPERSEDED, DROPPED):
                try:
                    agenda.done(turn)
                except MmfedError as error:  # it is still in the queue, and found to be over at the next look
                    self._tell_trouble(error)

    def _tell_trouble(self, error: MmfedError) -> None:
        tell("the queue cannot be gone on with", logging.WARNING, code=error.code, what=error.what)

    def _link(self, registry: SiteRegistry, offers: Offers) -> Link:
        portal = make_portal(self.federation, registry, offers)
        where = self.federation
        return Link(where.listen, where.certificates, where.spool, portal, most_reply=ROOM)

    def _serve_metrics(self, stack: ExitStack, metrics: Metrics) -> str:
        """Serve them if there is a port; a port that is taken costs the metrics, not the study."""
        wanted = self.federation.config.metrics_port
        if wanted == 0:
            return ""
        try:
            port = metrics.serve(wanted)
        except OSError as error:
            refused = NetworkError("MMF-553", f"port {wanted}: {error.strerror}")
            tell("no metrics", logging.WARNING, code=refused.code, what=refused.what, next=refused.next_step)
            return f"{refused.code} {refused.what}"
        stack.callback(metrics.close)
        return f"http://{LOOPBACK}:{port}/metrics"


def stop_on_signals(stop: threading.Event) -> Callable[[], None]:
    """Let SIGTERM and SIGINT set an event; what has not noticed after some seconds is interrupted.

    Returns
    -------
    noticed
        To be called when all have noticed: nothing is interrupted then, unless a person asks once more.
    """
    insisting = threading.Event()

    def ask(number: int, _frame: object) -> None:
        insisting.set()
        stop.set()
        signal.alarm(STOPPING_SECONDS)

    def insist(number: int, _frame: object) -> None:
        if insisting.is_set():
            raise KeyboardInterrupt

    def noticed() -> None:
        insisting.clear()
        signal.alarm(0)

    signal.signal(signal.SIGALRM, insist)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return noticed


__all__ = ["Coordinator", "Outcome", "stop_on_signals"]
