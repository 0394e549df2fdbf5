"""One round of training: choose sites, send weights, check updates, aggregate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from flwr.app import ConfigRecord, Message
from flwr.serverapp import Grid
from torch import Tensor

from mmfed_common import messages as m
from mmfed_common.arrays import Shapes, from_record, payload_bytes, shapes_of, to_record
from mmfed_common.errors import ModelError, NetworkError
from mmfed_common.schedule import Place, trained_parameters, used_parameters
from mmfed_common.study import Study
from mmfed_server.exchange import Answer, Refusal, exchange
from mmfed_server.roster import Roster, sample_sites
from mmfed_server.strategy import ChosenNodes, SiteStrategy, update_content
from mmfed_server.update_check import Checked, Expected, check_reply

MOST_ATTEMPTS = 3
"""How often a round is tried before the run ends, when too few sites answer."""


@dataclass(frozen=True)
class RoundOutcome:
    """What a round gave.

    Attributes
    ----------
    weights
        The global weights after it.
    loss
        Mean training loss over the patients of the accepted sites.
    accepted
        The updates that were taken, sorted by site.
    refusals
        Why others were not.
    bytes_down
        Bytes of arrays sent to each site.
    """

    weights: dict[str, Tensor]
    loss: float
    accepted: tuple[Checked, ...]
    refusals: tuple[Refusal, ...]
    bytes_down: int


@dataclass(frozen=True)
class TrainingRound:
    """Runs one round with a strategy.

    Attributes
    ----------
    study, roster, strategy, place
        The study, who is there, how updates become weights, and which round it is.
    block_of
        Parameter name → block of the model.
    report
        Called with each refusal of an attempt that had to be repeated.
    """

    study: Study
    roster: Roster
    strategy: SiteStrategy
    place: Place
    block_of: Callable[[str], str]
    report: Callable[[int, list[Refusal]], None]

    def run(self, grid: Grid, weights: Mapping[str, Tensor], scaling: Mapping[str, Tensor]) -> RoundOutcome:
        """Train and aggregate; repeat with other sites while too few answer.

        Raises
        ------
        NetworkError
            ``MMF-403`` when too few sites gave an update, several times.
        ModelError
            ``MMF-604`` when the aggregate is not finite.
        """
        least = self.study.aggregation.minimum_sites
        refusals: list[Refusal] = []
        for attempt in range(MOST_ATTEMPTS):
            refusals = self.roster.refresh(grid)
            chosen = sample_sites(self.study, self.roster.eligible, self.place.round, attempt)
            if len(chosen) >= least:
                messages, size = self._messages(grid, chosen, weights, scaling)
                accepted, refused = self._collect(grid, messages, chosen, weights)
                refusals += refused
                if len(accepted) >= least:
                    return self._aggregate(accepted, refusals, weights, size)
            self.report(attempt + 1, refusals)
        reasons = "".join(f"\n  {refusal.site}: {refusal}" for refusal in refusals)
        raise NetworkError(
            "MMF-403",
            f"round {self.place.round} needs {least} sites and was tried {MOST_ATTEMPTS} times{reasons}",
        )

    def _messages(
        self,
        grid: Grid,
        chosen: tuple[str, ...],
        weights: Mapping[str, Tensor],
        scaling: Mapping[str, Tensor],
    ) -> tuple[list[Message], int]:
        names = self._trained(weights)
        moving = to_record({name: weights[name] for name in names})
        used = used_parameters(weights, self.block_of, self.place.stage)
        frozen = to_record({name: weights[name] for name in used if name not in names})
        config = ConfigRecord({m.STUDY_HASH: self.study.hash, m.ROUND: self.place.round})
        nodes = ChosenNodes(grid, [self.roster.node_of[site] for site in chosen])
        messages = list(self.strategy.configure_train(self.place.round_in_stage, moving, config, nodes))
        extra = {m.FROZEN: frozen} | ({m.SCALING: to_record(scaling)} if scaling else {})
        for message in messages:
            for key, record in extra.items():
                message.content[key] = record
        return messages, sum(payload_bytes(record) for record in (moving, *extra.values()))

    def _collect(
        self, grid: Grid, messages: list[Message], chosen: tuple[str, ...], weights: Mapping[str, Tensor]
    ) -> tuple[list[tuple[Answer, Checked]], list[Refusal]]:
        deadline = self.study.aggregation.deadline_seconds
        answers, refusals = exchange(grid, messages, self.roster.name_of(chosen), deadline)
        shapes: Shapes = shapes_of({name: weights[name] for name in self._trained(weights)})
        accepted = []
        for answer in answers:
            expected = Expected(
                answer.site,
                self.study.hash,
                self.place.round,
                (m.LOSS, m.SECONDS),
                shapes,
                self.roster.patients[answer.site],
            )
            try:
                accepted.append((answer, check_reply(answer.message, expected)))
            except NetworkError as error:
                refusals.append(Refusal(answer.site, error.code, error.what))
        return accepted, refusals

    def _aggregate(
        self,
        accepted: list[tuple[Answer, Checked]],
        refusals: list[Refusal],
        weights: Mapping[str, Tensor],
        size: int,
    ) -> RoundOutcome:
        for answer, checked in accepted:
            arrays = answer.message.content.array_records[m.ARRAYS]
            answer.message.content = update_content(arrays, checked.num_examples, checked.metrics[m.LOSS])
        merged, metrics = self.strategy.aggregate_train(
            self.place.round_in_stage, [answer.message for answer, _ in accepted]
        )
        if merged is None or metrics is None:
            raise NetworkError("MMF-403", f"nothing was aggregated in round {self.place.round}")
        shapes = shapes_of({name: weights[name] for name in self._trained(weights)})
        if not all(bool(torch.isfinite(t).all()) for part in self.strategy.moments() for t in part.values()):
            raise ModelError("MMF-604", f"round {self.place.round}: a moment of the server is not finite")
        try:
            after = {**weights, **from_record(merged, shapes)}
        except ValueError as error:
            raise ModelError("MMF-604", f"round {self.place.round}: {error}") from None
        loss = metrics[m.LOSS]
        return RoundOutcome(
            {name: after[name] for name in weights},
            float(loss) if not isinstance(loss, list) else float("nan"),
            tuple(checked for _, checked in accepted),
            tuple(refusals),
            size,
        )

    def _trained(self, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
        return trained_parameters(weights, self.block_of, self.place.stage)
