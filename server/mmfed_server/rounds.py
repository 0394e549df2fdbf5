"""The rounds of a run: begin or go on, train, evaluate, commit, end in a known state."""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from typing import Any

from flwr.serverapp import Grid
from torch import Tensor

from mmfed_common import messages as m
from mmfed_common.errors import MmfedError, StudyError
from mmfed_common.model import build_model
from mmfed_common.schedule import Place, trained_parameters, used_parameters
from mmfed_server.evaluation_round import pooled_loss
from mmfed_server.exchange import Refusal
from mmfed_server.plan import RoundReport, RunPlan
from mmfed_server.record import FolderRecord, RunRecord, RunState, SiteTotals
from mmfed_server.roster import Roster
from mmfed_server.scaling_round import federated_scaling
from mmfed_server.strategy import SiteStrategy, flower_strategy
from mmfed_server.training_round import RoundOutcome, TrainingRound

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def run_rounds(grid: Grid, plan: RunPlan) -> RunState:
    """Run a study to its end, and say in the record's status how it ended.

    Raises
    ------
    MmfedError
        What ended the run; the last whole round is committed.
    """
    record = plan.record if plan.record is not None else FolderRecord(plan.folder)
    try:
        record.write_status("running")
        try:
            state = Rounds(grid, plan, record).run()
        except BaseException as error:
            record.event("failed", code=error.code if isinstance(error, MmfedError) else type(error).__name__)
            raise
        finally:
            record.close()
        record.write_status("finished")
        return state
    except KeyboardInterrupt:
        record.write_status("failed", "MMF-521", "the run was interrupted")
        raise
    except MmfedError as error:
        record.write_status("failed", error.code, error.what)
        raise
    except OSError as error:
        if error.errno not in DISK_FULL:
            record.write_status("failed", "", type(error).__name__)
            raise
        with suppress(OSError):  # the disk is full: the status may not be writable either
            record.write_status("failed", "MMF-508", "the disk is full")
        raise StudyError("MMF-508", f"the disk is full: {error.strerror}", str(plan.folder)) from None
    except Exception as error:
        record.write_status("failed", "", type(error).__name__)
        raise


class Rounds:
    """The loop over rounds, with what it keeps between them.

    Parameters
    ----------
    grid
        Flower's way to the sites.
    plan
        What to run.
    record
        Where state and diary go.
    """

    def __init__(self, grid: Grid, plan: RunPlan, record: RunRecord) -> None:
        self.grid, self.plan, self.record = grid, plan, record
        self.study = plan.study
        self.roster = Roster(plan.study, plan.sites)
        self.model = build_model(plan.study, plan.topology)
        self._refuse_idle_stages()
        self.strategy: SiteStrategy | None = None
        self.strategy_stage = -1

    def run(self) -> RunState:
        """Run from where the state says to the end."""
        state = self._begin()
        while not state.finished:
            self._round(state)
        self.record.finish(state)
        return state

    def _refuse_idle_stages(self) -> None:
        for number, stage in enumerate(self.study.training.stages, start=1):
            if not trained_parameters(self.model.state_dict(), self.model.block_of, stage):
                blocks = ", ".join(stage.trained_blocks)
                raise StudyError("MMF-501", f"stage {number} trains {blocks}, which this model does not have")

    def _begin(self) -> RunState:
        found = self.record.load() if self.plan.resume else None
        if found is not None and found.study_hash != self.study.hash:
            raise StudyError("MMF-502", "the state is of another study", str(self.plan.folder))
        self.record.rewind(found)
        if found is not None and found.finished:
            return found
        self.roster.wait(self.grid)
        refusals = self.roster.refresh(self.grid)
        self.record.event(
            "sites",
            taking_part=list(self.roster.eligible),
            below_floor=list(self.roster.below_floor),
            absent=list(self.roster.absent),
        )
        if found is not None:
            return found
        state = RunState(
            self.study.hash,
            next_round=1,
            weights={name: tensor.clone() for name, tensor in self.model.state_dict().items()},
            sites={name: SiteTotals() for name in self.roster.enrolled},
        )
        if self.study.contract.normalisation == "federated":
            scaling, more = federated_scaling(self.grid, self.study, self.plan.topology, self.roster)
            state.scaling = scaling.to_arrays()
            refusals += more
            self.record.event("scaling", sites=list(self.roster.eligible))
        for site in self.roster.node_of:
            state.sites[site].patients = self.roster.patients[site]
            state.sites[site].below_floor = site in self.roster.below_floor
        self._note_refusals(state, refusals)
        self.record.commit(state)
        return state

    def _round(self, state: RunState) -> None:
        began = time.perf_counter()
        place = Place.of(self.study.training, state.next_round)
        strategy = self._strategy(state, place)
        training = TrainingRound(
            self.study,
            self.roster,
            strategy,
            place,
            self.model.block_of,
            lambda attempt, refusals: self._note_repeat(place.round, attempt, refusals),
        )
        outcome = training.run(self.grid, state.weights, state.scaling)
        state.weights = outcome.weights
        state.first_moment, state.second_moment = strategy.moments()
        metrics = {"train_loss": outcome.loss}
        stage_ends = place.round == place.last_of_stage
        if self.study.training.patience is not None:
            stage_ends = self._early_stopping(state, place, metrics) or stage_ends
        state.next_round = (place.last_of_stage if stage_ends else place.round) + 1
        state.finished = state.next_round > self.study.training.rounds
        if stage_ends:
            self._end_stage(state)
        every = self.study.evaluation.every
        if state.finished or (every and place.round % every == 0):
            self._evaluate(state, place, metrics)
        self._conclude(state, place, outcome, metrics, time.perf_counter() - began)

    def _strategy(self, state: RunState, place: Place) -> SiteStrategy:
        """One strategy a stage: the trained parameters change with the stage, so its moments start anew."""
        if self.strategy is None or self.strategy_stage != place.stage_index:
            self.strategy = SiteStrategy(flower_strategy(self.study.aggregation, place.stage))
            self.strategy.set_moments(state.first_moment, state.second_moment)
            self.strategy_stage = place.stage_index
        return self.strategy

    def _early_stopping(self, state: RunState, place: Place, metrics: dict[str, float]) -> bool:
        """Ask for the validation loss; tell whether the stage has waited long enough for a better one."""
        loss = pooled_loss(
            self.grid,
            self.study,
            self.roster,
            m.EVALUATE_VALIDATION,
            place.round,
            self._used(state, place),
            state.scaling,
        )
        self._note_refusals(state, list(loss.refusals))
        if loss.mean is None:
            self.record.event("validation-unavailable", round=place.round)
            return False
        metrics["validation_loss"] = loss.mean
        if state.best_loss is None or loss.mean < state.best_loss:
            state.best_loss, state.waited = loss.mean, 0
            state.best_weights = dict(state.weights)
            return False
        state.waited += 1
        return state.waited >= (self.study.training.patience or 0)

    def _used(self, state: RunState, place: Place) -> dict[str, Tensor]:
        names = used_parameters(state.weights, self.model.block_of, place.stage)
        return {name: state.weights[name] for name in names}

    def _end_stage(self, state: RunState) -> None:
        if state.best_weights:
            state.weights = state.best_weights
        state.best_weights, state.best_loss, state.waited = {}, None, 0
        state.first_moment, state.second_moment = {}, {}

    def _evaluate(self, state: RunState, place: Place, metrics: dict[str, float]) -> None:
        if self.study.evaluation.rule == "none":
            return
        loss = pooled_loss(
            self.grid,
            self.study,
            self.roster,
            m.EVALUATE_HELD_OUT,
            place.round,
            self._used(state, place),
            state.scaling,
        )
        self._note_refusals(state, list(loss.refusals))
        if loss.mean is not None:
            metrics["held_out_loss"] = loss.mean

    def _conclude(
        self,
        state: RunState,
        place: Place,
        outcome: RoundOutcome,
        metrics: dict[str, float],
        seconds: float,
    ) -> None:
        for update in outcome.accepted:
            totals = state.sites[update.site]
            totals.patients = update.num_examples
            totals.rounds += 1
            totals.seconds += update.metrics[m.SECONDS]
            totals.bytes_up += update.bytes
            totals.bytes_down += outcome.bytes_down
        self._note_refusals(state, list(outcome.refusals))
        report = RoundReport(
            place.round,
            self.study.training.rounds,
            place.stage.level,
            seconds,
            metrics,
            tuple(update.site for update in outcome.accepted),
            {refusal.site: str(refusal) for refusal in outcome.refusals},
        )
        entry: dict[str, Any] = {
            "round": place.round,
            "stage": place.stage.level,
            "seconds": round(seconds, 4),
            **metrics,
            "sites": len(report.sites),
            "refused": dict(report.refused),
        }
        state.history.append(entry)
        self.record.event("round", **{**entry, "sites": list(report.sites)})
        self.record.commit(state)
        if self.plan.progress is not None:
            self.plan.progress(report)

    def _note_refusals(self, state: RunState, refusals: list[Refusal]) -> None:
        for refusal in refusals:
            if refusal.site in state.sites:
                state.sites[refusal.site].refusals += 1
                state.sites[refusal.site].last_refusal = str(refusal)
            self.record.event("refused", site=refusal.site, code=refusal.code, reason=refusal.reason)

    def _note_repeat(self, round_number: int, attempt: int, refusals: list[Refusal]) -> None:
        reasons = {refusal.site: str(refusal) for refusal in refusals}
        self.record.event("round-repeated", round=round_number, attempt=attempt, refused=reasons)
