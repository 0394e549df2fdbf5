"""The loop over the rounds of a run: begin or go on, train, evaluate, commit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from flwr.serverapp import Grid
from torch import Tensor

from mmfed_common import messages as m
from mmfed_common.bundle import load_bundle
from mmfed_common.errors import ModelError, NetworkError, StudyError
from mmfed_common.model import build_model
from mmfed_common.model.start import start_from
from mmfed_common.schedule import Place, trained_parameters, used_parameters
from mmfed_server.plan import RoundReport, RunPlan
from mmfed_server.record.record import RunRecord
from mmfed_server.record.state import RunState, SiteTotals
from mmfed_server.rounds.deadline import Deadlines
from mmfed_server.rounds.desk import Desk
from mmfed_server.rounds.evaluation_round import pooled_loss
from mmfed_server.rounds.exchange import Refusal
from mmfed_server.rounds.masked_round import MaskedRound
from mmfed_server.rounds.past import SitePasts
from mmfed_server.rounds.roster import Roster
from mmfed_server.rounds.scaling_round import federated_scaling
from mmfed_server.rounds.strategy import SiteStrategy, flower_strategy
from mmfed_server.rounds.training_round import RoundOutcome, TrainingRound
from mmfed_server.rounds.waiting import Waiting

Result = TypeVar("Result")


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
        self.plan, self.record = plan, record
        self.study = plan.study
        self.desk = Desk(grid, plan, Deadlines(plan.study.aggregation.deadline_seconds))
        self.roster = Roster(plan.study, plan.sites)
        self.waiting = Waiting(self.desk, self.roster, record)
        self.strategy: SiteStrategy | None = None
        self.strategy_stage = -1

    def run(self) -> RunState:
        """Run from where the state says to the end."""
        state = self._begin()
        while not state.finished:
            self._round(state)
        self.record.finish(state)
        return state

    def _begin(self) -> RunState:
        model = build_model(self.study, self.plan.topology)
        self.block_of = model.block_of
        self.shrinking = frozenset(name for name, _ in model.named_parameters() if model.shrinks(name))
        start = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        self._refuse_idle_stages(start)
        found = self.record.load() if self.plan.resume else None
        if found is not None and found.study_hash != self.study.hash:
            raise StudyError("MMF-502", "the state is of another study", str(self.plan.folder))
        self.record.rewind(found)
        if found is not None and found.finished:
            return found
        self.spool = self.record.spool()
        if found is not None:
            self.roster.announced = {name: totals.patients for name, totals in found.sites.items()}
        refusals = self.waiting.for_sites()
        self.record.event(
            "sites",
            taking_part=list(self.roster.eligible),
            below_floor=list(self.roster.below_floor),
            absent=list(self.roster.absent),
        )
        if found is not None:
            self._note_refusals(found, refusals)
            return found
        state = RunState(
            self.study.hash,
            next_round=1,
            weights=self._first_weights(start),
            sites={name: SiteTotals() for name in self.roster.enrolled},
        )
        refusals += self._scale(state)
        for site in self.roster.node_of:
            state.sites[site].patients = self.roster.patients[site]
            state.sites[site].below_floor = site in self.roster.below_floor
        self._note_refusals(state, refusals)
        self.record.commit(state)
        return state

    def _first_weights(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of round 1: as drawn, with what a released model gives."""
        if self.study.model.start_from is None:
            return drawn
        if self.plan.bundle is None:
            raise ModelError("MMF-630", "no bundle was given for this run", self.study.model.start_from.file)
        weights, taken = start_from(load_bundle(self.plan.bundle), self.study, self.plan.topology, drawn)
        self.record.event("started-from", **taken.as_dict())
        return weights

    def _scale(self, state: RunState) -> list[Refusal]:
        if self.study.contract.normalisation != "federated":
            return []
        scaling, sites, refusals = self._patiently(
            lambda: federated_scaling(self.desk, self.study, self.plan.topology, self.roster, self.record)
        )
        state.scaling = scaling.to_arrays()
        state.note_contribution(sites, 0)
        self.record.event("scaling", sites=sites)
        return refusals

    def _refuse_idle_stages(self, weights: dict[str, Tensor]) -> None:
        for number, stage in enumerate(self.study.training.stages, start=1):
            study = self.study
            if not trained_parameters(weights, self.block_of, stage, study.privacy, study.model.frozen):
                what = f"stage {number} trains {', '.join(stage.trained_blocks)}"
                choice = (
                    f"of which `trainable = {study.privacy.trainable!r}` and `frozen` let nothing move in "
                    "this model"
                )
                raise StudyError("MMF-501", f"{what}, {choice}")

    def _patiently(self, work: Callable[[], Result]) -> Result:
        """Do something that needs enough sites; where the plan is patient, wait for them and do it again."""
        failures = 0
        while True:
            try:
                return work()
            except NetworkError as error:
                if error.code != "MMF-403" or self.plan.wait_for_sites != "patient":
                    raise
                failures += 1
                self.waiting.after_too_few(error.what, failures)

    def _round(self, state: RunState) -> None:
        began = time.perf_counter()
        place = Place.of(self.study.training, state.next_round)
        strategy = self._strategy(state, place)
        past = SitePasts(state.norms, state.digests)
        parts = (
            self.study,
            self.desk,
            self.roster,
            strategy,
            place,
            past,
            self.spool,
            self.block_of,
            self.shrinking,
            lambda attempt, refusals: self._note_repeat(place, attempt, refusals),
        )
        secure = self.study.aggregation.secure
        training = MaskedRound(*parts, sums=self.record) if secure else TrainingRound(*parts)
        self._say_where(place)
        try:
            outcome = self._patiently(lambda: training.run(state.weights, state.scaling))
        finally:
            training.close()
        past.add(outcome.accepted)
        for update in outcome.accepted:
            self.desk.taken(update.site)
        state.weights = outcome.weights
        state.first_moment, state.second_moment = strategy.moments()
        self._average(state, place)
        private = self.study.privacy.mode != "none"
        metrics = {} if private else {"train_loss": outcome.loss}
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

    def _average(self, state: RunState, place: Place) -> None:
        """Take the round's weights into the mean that the stage ends with, if it ends with one."""
        count = place.round_in_stage - place.stage.averages_from + 1
        if count < 1:
            return
        privacy, frozen = self.study.privacy, self.study.model.frozen
        names = trained_parameters(state.weights, self.block_of, place.stage, privacy, frozen)
        before = state.tail
        state.tail = {}
        for name in names:
            weight = state.weights[name].double()
            state.tail[name] = weight if count == 1 else before[name] + (weight - before[name]) / count

    def _early_stopping(self, state: RunState, place: Place, metrics: dict[str, float]) -> bool:
        """Ask for the validation loss; tell whether the stage has waited long enough for a better one."""
        loss = pooled_loss(
            self.desk,
            self.study,
            self.roster,
            m.EVALUATE_VALIDATION,
            place.round,
            self._used(state, place),
            state.scaling,
        )
        self._note_refusals(state, list(loss.refusals))
        state.note_contribution(loss.sites, place.round)
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
        names = used_parameters(state.weights, self.block_of, place.stage)
        return {name: state.weights[name] for name in names}

    def _end_stage(self, state: RunState) -> None:
        if state.best_weights:
            state.weights = state.best_weights
        mean = {name: value.to(state.weights[name].dtype) for name, value in state.tail.items()}
        state.weights = state.weights | mean
        state.tail = {}
        state.best_weights, state.best_loss, state.waited = {}, None, 0
        state.first_moment, state.second_moment = {}, {}
        SitePasts(state.norms, state.digests).forget()

    def _evaluate(self, state: RunState, place: Place, metrics: dict[str, float]) -> None:
        if self.study.evaluation.rule == "none" or self.study.privacy.mode != "none":
            return
        loss = pooled_loss(
            self.desk,
            self.study,
            self.roster,
            m.EVALUATE_HELD_OUT,
            place.round,
            self._used(state, place),
            state.scaling,
        )
        self._note_refusals(state, list(loss.refusals))
        state.note_contribution(loss.sites, place.round)
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
            totals = state.sites.setdefault(update.site, SiteTotals())
            totals.patients = update.num_examples
            totals.rounds += 1
            totals.seconds += update.seconds
            totals.bytes_up += update.bytes
            totals.bytes_down += outcome.bytes_down
        state.note_contribution((update.site for update in outcome.accepted), place.round)
        self._note_refusals(state, list(outcome.refusals))
        report = RoundReport(
            place.round,
            self.study.training.rounds,
            place.stage.label,
            seconds,
            metrics,
            tuple(update.site for update in outcome.accepted),
            {refusal.site: str(refusal) for refusal in outcome.refusals},
        )
        entry: dict[str, Any] = {
            "round": place.round,
            "stage": place.stage.label,
            "seconds": round(seconds, 4),
            **metrics,
            "sites": len(report.sites),
            "taken": list(report.sites),
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

    def _say_where(self, place: Place, **more: Any) -> None:
        self.record.write_status(
            "running",
            round=place.round,
            rounds=self.study.training.rounds,
            stage=place.stage.label,
            present=list(self.roster.eligible),
            missing=list(self.roster.absent),
            **more,
        )

    def _note_repeat(self, place: Place, attempt: int, refusals: list[Refusal]) -> None:
        """Say at once who keeps the round from ending: the next attempt may take long."""
        reasons = {refusal.site: str(refusal) for refusal in refusals}
        self.record.event("round-repeated", round=place.round, attempt=attempt, refused=reasons)
        self._say_where(place, refused=reasons)
