"""A study's run, as a server runs it: over what may pass by itself, to an end that is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from mmfed_common.errors import MmfedError, StudyError
from mmfed_common.study import Study
from mmfed_server.coordinator.agenda import Turn
from mmfed_server.coordinator.barred import Barred, RunStop
from mmfed_server.coordinator.board import Board
from mmfed_server.coordinator.keeper import Keeper
from mmfed_server.coordinator.reply_bound import most_reply_bytes
from mmfed_server.coordinator.seals import EnrolledSeals
from mmfed_server.coordinator.told_record import ToldRecord
from mmfed_server.federation import Federation, SiteRegistry
from mmfed_server.link.grid import LinkGrid
from mmfed_server.logs import tell
from mmfed_server.monitoring import Metrics
from mmfed_server.plan import RoundReport, RunPlan, StopSign
from mmfed_server.record.catalogue import RunCatalogue, RunSummary, newest_run
from mmfed_server.rounds import run_rounds
from mmfed_server.studies import StudyShelf
from mmfed_server.studies.queue import Queued, StudyQueue
from mmfed_server.withdrawal.register import Withdrawals

PASSING = ("MMF-403", "MMF-440", "MMF-486", "MMF-508", "MMF-530")
"""What ends a run but may pass: too few sites, the database away, a disk full. It is tried again."""
DOUBTFUL = ("MMF-385", "MMF-392", "MMF-402", "MMF-408", "MMF-416", "MMF-436", "MMF-441", "MMF-487")
"""Refusals that count towards quarantine, besides those of the guard (45x, 46x)."""
AWAY = ("MMF-462", "MMF-463", "MMF-464", "MMF-465")
"""Of the guard's refusals, those of a site that was late, cut off, not enrolled or there twice."""
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
SUPERSEDED = "superseded"
DROPPED = "dropped"
STOPPED = "MMF-521"
"""How a run says that it ended because it was told to."""


@dataclass(frozen=True)
class Outcome:
    """How it ended.

    Attributes
    ----------
    state
        ``idle``, ``finished``, ``failed``, ``stopped``; ``superseded`` when another run is to replace it,
        ``dropped`` when its study was taken off the queue.
    run
        The run's name; empty without a study.
    error
        What ended the run, when it failed.
    """

    state: str
    run: str = ""
    error: MmfedError | None = None


@dataclass(frozen=True)
class RunService:
    """Runs studies for a server; what it needs of the process around it.

    Attributes
    ----------
    federation, engine, registry, board, metrics, keeper, shelf, queue
        What is served, and where things are looked up and told.
    stop
        Set when the process is to stop.
    progress
        Called after each round.
    """

    federation: Federation
    engine: Engine
    registry: SiteRegistry
    board: Board
    metrics: Metrics
    keeper: Keeper
    shelf: StudyShelf
    queue: StudyQueue
    stop: StopSign
    pause: Callable[[float], bool]
    progress: Callable[[RoundReport], None] | None = None

    def run(self, grid: LinkGrid, turn: Turn) -> Outcome:
        """Run a study to its end, over what may pass by itself."""
        study = turn.study
        self.board.note(study={"name": study.study.name, "hash": study.hash})
        catalogue = RunCatalogue(self.engine)
        newest = newest_run(catalogue, study.hash)
        if newest is not None and newest.status == "finished" and not _wants_another(turn.entry, newest):
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
        stop = RunStop(self.stop, catalogue, run, self.queue, study.hash)
        plan = self._plan(study, catalogue.run(run), stop)
        grid.bound_replies(most_reply_bytes(study, plan.topology))
        return self._attempts(grid, plan, stop)

    def refuse(self, entry: Queued, error: MmfedError) -> Outcome:
        """Say that a study cannot be run at all."""
        self.board.note(study={"name": entry.study_name, "hash": entry.study_hash})
        return self._failed("", error)

    def _plan(self, study: Study, run: RunSummary, stop: RunStop) -> RunPlan:
        spool = self.federation.spool / "rounds"
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
            keys_now=self.registry.keys,
            quarantined=Barred(self.registry, Withdrawals(self.engine), run),
            bundle=self.shelf.bundle_of(study),
            stop=stop,
        )

    def _attempts(self, grid: LinkGrid, plan: RunPlan, stop: RunStop) -> Outcome:
        run = str(self.board.get("run"))
        pause = FIRST_PAUSE_SECONDS
        while True:
            before = self.board.get("round")
            try:
                run_rounds(grid, plan)
            except KeyboardInterrupt:
                return self._stopped(run, plan)
            except MmfedError as error:
                if self.stop.is_set():
                    return self._stopped(run, plan)
                if stop.superseded():
                    tell("run is replaced", run=run)
                    return Outcome(SUPERSEDED, run)
                if stop.dropped():
                    return self._dropped(run, plan)
                if error.code == STOPPED:
                    return self._stopped(run, plan)
                if error.code not in PASSING:
                    return self._failed(run, error)
                pause = FIRST_PAUSE_SECONDS if self.board.get("round") != before else pause
                self._say_failed(error, again_in=pause)
                if self.pause(pause):
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
        if self.progress is not None:
            self.progress(report)

    def _refused(self, site: str, code: str, reason: str) -> None:
        self.metrics.note_refusal(site, code)
        if counts_towards_quarantine(code) and self.registry.note_refusal(site, code):
            lift = f"mmfed-server enrol {site} --lift"
            tell("site in quarantine", logging.WARNING, site=site, code=code, reason=reason, next=lift)

    def _stopped(self, run: str, plan: RunPlan) -> Outcome:
        self._say_stopped(plan, "MMF-557", "it was asked to stop")
        return Outcome("stopped", run)

    def _dropped(self, run: str, plan: RunPlan) -> Outcome:
        self._say_stopped(plan, "MMF-580", "its study was taken off the queue")
        tell("run is set aside", logging.WARNING, run=run)
        return Outcome(DROPPED, run)

    def _say_stopped(self, plan: RunPlan, code: str, reason: str) -> None:
        try:
            if plan.record is not None:
                plan.record.write_status("stopped", code, reason)
        except MmfedError as error:
            tell("the status cannot be written", logging.ERROR, reason=str(error).splitlines()[0])

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


def _wants_another(entry: Queued, newest: RunSummary) -> bool:
    """Whether a study was asked for once more since its newest run began."""
    return entry.again and newest.created < entry.submitted
