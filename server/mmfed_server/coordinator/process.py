"""The process that serves a federation and runs its study, from start to stop."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from mmfed_common.errors import MmfedError, NetworkError, StudyError
from mmfed_common.signed_study import SignedStudy
from mmfed_common.study import Study
from mmfed_server.coordinator.barred import Barred, RunStop
from mmfed_server.coordinator.board import Board
from mmfed_server.coordinator.keeper import Keeper
from mmfed_server.coordinator.lock import ServerLock
from mmfed_server.coordinator.reply_bound import ROOM, most_reply_bytes
from mmfed_server.coordinator.seals import EnrolledSeals
from mmfed_server.coordinator.told_record import ToldRecord
from mmfed_server.database import open_database
from mmfed_server.federation import Federation, Offers, SiteRegistry
from mmfed_server.link.grid import LinkGrid
from mmfed_server.link.link import Link
from mmfed_server.logs import logging_to, tell
from mmfed_server.monitoring import LOOPBACK, Metrics
from mmfed_server.plan import RoundReport, RunPlan
from mmfed_server.portal import make_portal
from mmfed_server.record.catalogue import RunCatalogue, RunSummary
from mmfed_server.rounds import run_rounds
from mmfed_server.studies import StudyShelf
from mmfed_server.withdrawal.register import Withdrawals

PASSING = ("MMF-403", "MMF-440", "MMF-486", "MMF-508", "MMF-530")
"""What ends a run but may pass: too few sites, the database away, a disk full. It is tried again."""
DOUBTFUL = ("MMF-385", "MMF-392", "MMF-402", "MMF-408", "MMF-416", "MMF-436", "MMF-441", "MMF-487")
"""Refusals that count towards quarantine, besides those of the guard (45x, 46x)."""
AWAY = ("MMF-462", "MMF-463", "MMF-464", "MMF-465")
"""Of the guard's refusals, those of a site that was late, cut off, not enrolled or there twice."""
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
LOOK_SECONDS = 1.0
"""How often to look whether a run is to be trained again."""
STOPPING_SECONDS = 5
"""How long a round may take to notice that the process is to stop, before it is interrupted."""
SUPERSEDED = "superseded"
STOPPED = "MMF-521"
"""How a run says that it ended because it was told to."""


@dataclass(frozen=True)
class Outcome:
    """How it ended.

    Attributes
    ----------
    state
        ``idle``, ``finished``, ``failed``, ``stopped`` or, when another run is to replace it, ``superseded``.
    run
        The run's name; empty without a study.
    error
        What ended the run, when it failed.
    """

    state: str
    run: str = ""
    error: MmfedError | None = None


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
    """

    federation: Federation
    progress: Callable[[RoundReport], None] | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def serve(
        self,
        study_file: Path | None = None,
        *,
        again: bool = False,
        exit_when_done: bool = False,
        quiet: bool = False,
    ) -> Outcome:
        """Serve until :attr:`stop` is set; run the study given, or go on with the one that was on.

        Parameters
        ----------
        study_file
            It is signed and kept first, if it is not yet.
        again
            Begin a new run of a study that has been finished.
        exit_when_done
            Come back when the run has finished or failed.
        quiet
            Log to the file only.

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
            signed = self._choose(shelf, study_file)
            metrics = Metrics()
            board = Board(folder, metrics)
            board.note(federation=self.federation.name, public=self.federation.address)
            engine = open_database(self.federation.database_url)
            stack.callback(engine.dispose)
            registry, offers = SiteRegistry(engine), Offers(self.federation)
            offers.trouble = lambda: str(board.get("code") or "")
            if signed is not None:
                study = shelf.open(signed)
                offers.put(signed, shelf.pack_of(study))
            link = stack.enter_context(self._link(registry, offers))
            board.note(listens=link.address, metrics=self._serve_metrics(stack, metrics))
            keeper = stack.enter_context(Keeper(self.federation, registry, link, board, metrics))
            tell("serving", federation=self.federation.name, listens=link.address, pid=board.get("pid"))
            service = _Service(self, engine, registry, board, metrics, keeper, shelf)
            outcome = Outcome("idle")
            if signed is not None:
                study = shelf.open(signed)
                outcome = service.run(link.grid(), study, again=again)
                while outcome.state == SUPERSEDED or (
                    not exit_when_done and service.replacement(outcome, study)
                ):
                    outcome = service.run(link.grid(), study, again=False)
            else:
                board.set_state("idle")
                tell("no study is on", next="mmfed-server start --study FILE")
            if not exit_when_done:
                self.stop.wait()
            if outcome.state in ("idle", "waiting", "running"):
                board.set_state("stopped")
            tell("stopped serving", state=outcome.state)
            return outcome

    def _choose(self, shelf: StudyShelf, study_file: Path | None) -> SignedStudy | None:
        if study_file is not None:
            study, _ = shelf.put(study_file)
            return shelf.offer(study)
        signed = shelf.offered()
        return None if signed is None else shelf.offer(shelf.open(signed))

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


@dataclass(frozen=True)
class _Service:
    """What a run needs of the process around it."""

    process: Coordinator
    engine: Engine
    registry: SiteRegistry
    board: Board
    metrics: Metrics
    keeper: Keeper
    shelf: StudyShelf

    def run(self, grid: LinkGrid, study: Study, *, again: bool) -> Outcome:
        """Run a study to its end, over what may pass by itself."""
        self.board.note(study={"name": study.study.name, "hash": study.hash})
        catalogue = RunCatalogue(self.engine)
        newest = _newest(catalogue, study)
        if newest is not None and newest.finished and newest.status == "finished" and not again:
            self.board.note(run=newest.run, round=newest.next_round - 1, rounds=newest.rounds)
            self.board.set_state("finished")
            tell("the run is finished", run=newest.run, next="`--again` begins another run of this study")
            return Outcome("finished", newest.run)
        goes_on = newest is not None and newest.status != "finished"
        run = newest.run if newest is not None and goes_on else catalogue.begin(study)
        done = newest.next_round - 1 if newest is not None and goes_on else 0
        self.board.note(run=run, round=done, rounds=study.training.rounds)
        self.metrics.set_rounds(study.training.rounds, done)
        tell("run goes on" if goes_on else "run begins", run=run, study=study.hash[:12], rounds_done=done)
        plan = self._plan(study, catalogue.run(run))
        grid.bound_replies(most_reply_bytes(study, plan.topology))
        return self._attempts(grid, plan)

    def replacement(self, outcome: Outcome, study: Study) -> bool:
        """Wait until a run is to replace the one that has ended (True), or the process is to stop (False)."""
        while not self.process.stop.wait(LOOK_SECONDS):
            try:
                newest = _newest(RunCatalogue(self.engine), study)
            except MmfedError as error:
                tell("the runs cannot be read", logging.WARNING, code=error.code, what=error.what)
                continue
            if newest is not None and newest.replaces == outcome.run and newest.status == "prepared":
                return True
        return False

    def _plan(self, study: Study, run: RunSummary) -> RunPlan:
        spool = self.process.federation.spool / "rounds"
        seals = EnrolledSeals(self.registry, self.keeper.note_software)
        return RunPlan(
            study=study,
            sites=tuple(sorted(self.keeper.expected())),
            topology=self.shelf.topology(study),
            folder=spool,
            resume=True,
            progress=self._progress,
            seals=seals,
            ledger_known=seals.ledger_known,
            on_refusal=self._refused,
            on_success=self.registry.note_success,
            record=ToldRecord(self.engine, run.run, spool, self.board),
            wait_for_sites="patient",
            sites_now=self.registry.keys,
            quarantined=Barred(self.registry, Withdrawals(self.engine), run),
            bundle=self.shelf.bundle_of(study),
            stop=RunStop(self.process.stop, RunCatalogue(self.engine), run.run),
        )

    def _attempts(self, grid: LinkGrid, plan: RunPlan) -> Outcome:
        run = str(self.board.get("run"))
        pause = FIRST_PAUSE_SECONDS
        while True:
            before = self.board.get("round")
            try:
                run_rounds(grid, plan)
            except KeyboardInterrupt:
                return self._stopped(run, plan)
            except MmfedError as error:
                if self.process.stop.is_set():
                    return self._stopped(run, plan)
                if plan.stop is not None and plan.stop.is_set():
                    tell("run is replaced", run=run)
                    return Outcome(SUPERSEDED, run)
                if error.code == STOPPED:
                    return self._stopped(run, plan)
                if error.code not in PASSING:
                    return self._failed(run, error)
                pause = FIRST_PAUSE_SECONDS if self.board.get("round") != before else pause
                self._say_failed(error, again_in=pause)
                if self.process.stop.wait(pause):
                    return self._stopped(run, plan)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            except Exception as defect:
                logging.getLogger(__name__).exception("the run met a defect")
                what = f"{type(defect).__name__}: {defect}".splitlines()[0][:200]
                return self._failed(run, StudyError("MMF-556", what))
            else:
                self.board.set_state("finished")
                tell("run finished", run=run, next=f"mmfed-server export {run} --out BUNDLE")
                return Outcome("finished", run)

    def _progress(self, report: RoundReport) -> None:
        self.board.note(
            round=report.round,
            rounds=report.rounds,
            last_round={
                "round": report.round,
                "stage": report.stage,
                "seconds": round(report.seconds, 3),
                "metrics": dict(report.metrics),
                "sites": list(report.sites),
                "refused": dict(report.refused),
            },
        )
        self.metrics.note_round(report)
        if self.process.progress is not None:
            self.process.progress(report)

    def _refused(self, site: str, code: str, reason: str) -> None:
        self.metrics.note_refusal(site, code)
        if counts_towards_quarantine(code) and self.registry.note_refusal(site, code):
            lift = f"mmfed-server enrol {site} --lift"
            tell("site in quarantine", logging.WARNING, site=site, code=code, reason=reason, next=lift)

    def _stopped(self, run: str, plan: RunPlan) -> Outcome:
        reason = "it was asked to stop"
        try:
            if plan.record is not None:
                plan.record.write_status("stopped", "MMF-557", reason)
        except MmfedError as error:
            tell("the status cannot be written", logging.ERROR, reason=str(error).splitlines()[0])
        return Outcome("stopped", run)

    def _failed(self, run: str, error: MmfedError) -> Outcome:
        self._say_failed(error)
        return Outcome("failed", run, error)

    def _say_failed(self, error: MmfedError, again_in: float | None = None) -> None:
        details = {} if again_in is None else {"again_in_seconds": again_in}
        tell(
            "run failed",
            logging.ERROR,
            code=error.code,
            what=error.what,
            where=error.where,
            next=error.next_step,
            **details,
        )
        self.board.set_state("failed", error.code, error.what, **details)


def counts_towards_quarantine(code: str) -> bool:
    """Tell whether a refusal is the site's doing: a site that was cut off or is slow is only absent."""
    return code in DOUBTFUL or (code.startswith(("MMF-45", "MMF-46")) and code not in AWAY)


def stop_on_signals(stop: threading.Event) -> None:
    """Let SIGTERM and SIGINT set an event; what has not noticed after some seconds is interrupted."""

    def ask(number: int, _frame: object) -> None:
        stop.set()
        signal.alarm(STOPPING_SECONDS)

    def insist(number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, insist)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)


def _newest(catalogue: RunCatalogue, study: Study) -> RunSummary | None:
    return next((found for found in catalogue.runs() if found.study_hash == study.hash), None)


__all__ = ["Coordinator", "Outcome", "stop_on_signals"]
