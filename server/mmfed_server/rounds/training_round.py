"""One round of training: choose sites, send weights, check updates, aggregate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from flwr.app import ConfigRecord, Message, RecordDict
from torch import Tensor

from mmfed_common import messages as m
from mmfed_common.arrays import Shapes, all_finite, payload_bytes, shapes_of, to_record
from mmfed_common.compression import wire_shapes
from mmfed_common.errors import ModelError, NetworkError
from mmfed_common.schedule import Place, trained_parameters, used_parameters
from mmfed_common.study import Study
from mmfed_server.guard import (
    Expected,
    UpdateNorm,
    check_reply,
    each_weight_in_place,
    steps_of,
    suspicious_norms,
)
from mmfed_server.rounds.desk import UNREADABLE, Desk
from mmfed_server.rounds.exchange import Answer, Refusal, forget_arrays
from mmfed_server.rounds.past import SitePasts
from mmfed_server.rounds.roster import Roster, sample_sites
from mmfed_server.rounds.spool import Piece, SpooledUpdate, mean_of, write_arrays
from mmfed_server.rounds.strategy import ChosenNodes, SiteStrategy

MOST_ATTEMPTS = 3
"""How often a round is tried before the run ends or waits, when too few sites answer."""


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
        The updates that were taken, sorted by site; their arrays are gone.
    refusals
        Why others were not.
    bytes_down
        Bytes of arrays sent to each site.
    """

    weights: dict[str, Tensor]
    loss: float
    accepted: tuple[SpooledUpdate, ...]
    refusals: tuple[Refusal, ...]
    bytes_down: int


@dataclass
class TrainingRound:
    """Runs one round with a strategy.

    An update that was taken stays valid while the round is repeated for want of others: its site is not
    asked again, as it would train the same weights to the same update.

    Attributes
    ----------
    study, desk, roster, strategy, place
        The study, the way to the sites, who is there, how updates become weights, and which round it is.
    past
        What the sites' earlier updates were like.
    folder
        For the updates.
    block_of
        Parameter name → block of the model.
    shrinking
        Names of the parameters that weight decay pulls on.
    report
        Called with each refusal of an attempt that had to be repeated.
    """

    study: Study
    desk: Desk
    roster: Roster
    strategy: SiteStrategy
    place: Place
    past: SitePasts
    folder: Path
    block_of: Callable[[str], str]
    shrinking: Collection[str]
    report: Callable[[int, list[Refusal]], None]
    taken: dict[str, SpooledUpdate] = field(default_factory=dict)

    def run(self, weights: Mapping[str, Tensor], scaling: Mapping[str, Tensor]) -> RoundOutcome:
        """Train and aggregate; repeat with other sites while too few answer. It may be called again.

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
            refusals = self.roster.refresh(self.desk, self.place.round)
            chosen = sample_sites(self.study, self.roster.eligible, self.place.round, attempt)
            if len(chosen) >= least:
                asked = [site for site in chosen if site not in self.taken]
                size = self._collect(asked, weights, scaling, refusals)
                refusals += self._refuse_by_size([self.taken[site] for site in chosen if site in self.taken])
                refusals += self._forget_who_left()
                accepted = [self.taken[site] for site in chosen if site in self.taken]
                if len(accepted) >= least:
                    return self._aggregate(accepted, refusals, weights, size)
            self.report(attempt + 1, refusals)
        reasons = "".join(f"\n  {refusal.site}: {refusal}" for refusal in refusals)
        raise NetworkError(
            "MMF-403",
            f"round {self.place.round} needs {least} sites and was tried {MOST_ATTEMPTS} times{reasons}",
        )

    def close(self) -> None:
        """Forget the updates."""
        for update in self.taken.values():
            update.close()
        self.taken.clear()

    def _collect(
        self,
        asked: list[str],
        weights: Mapping[str, Tensor],
        scaling: Mapping[str, Tensor],
        refusals: list[Refusal],
    ) -> int:
        """Ask sites and spool what they answer; gives the bytes of arrays that each was sent."""
        messages, size = self._messages(asked, weights, scaling)
        shapes = self._shapes(weights)
        names, timed_as = self.roster.name_of(asked), f"train {self.place.stage_index}"
        for found in self.desk.ask(messages, names, self.place.round, timed_as):
            if isinstance(found, Refusal):
                refusals.append(found)
                continue
            try:
                self.taken[found.site] = self._spool(found, shapes, weights)
            except (NetworkError, *UNREADABLE) as error:
                refusals.append(self.desk.refused(found.site, error, self.place.round))
            finally:
                forget_arrays(found.message)
        return size

    def _messages(
        self, chosen: list[str], weights: Mapping[str, Tensor], scaling: Mapping[str, Tensor]
    ) -> tuple[list[Message], int]:
        names = self._trained(weights)
        moving = to_record({name: weights[name] for name in names})
        used = used_parameters(weights, self.block_of, self.place.stage)
        frozen = to_record({name: weights[name] for name in used if name not in names})
        extra = {m.FROZEN: frozen} | ({m.SCALING: to_record(scaling)} if scaling else {})
        size = sum(payload_bytes(record) for record in (moving, *extra.values()))
        if not chosen:
            return [], size
        config = ConfigRecord({m.STUDY_HASH: self.study.hash, m.ROUND: self.place.round})
        nodes = ChosenNodes(self.desk.grid, [self.roster.node_of[site] for site in chosen])
        messages = self.strategy.messages(self.place.round_in_stage, config, nodes)
        for message in messages:
            for key, record in {m.ARRAYS: moving, **extra}.items():
                message.content[key] = record
        if self.study.aggregation.compression == "int8":
            self._name_last_taken(messages, self.roster.name_of(chosen))
        return messages, size

    def _name_last_taken(self, messages: list[Message], names: Mapping[int, str]) -> None:
        """Say to each site which of its updates was taken last: what that one lost goes into the next."""
        for message in messages:
            last = self.past.digests.get(names[message.metadata.dst_node_id], "")
            config = {**dict(message.content.config_records[m.CONFIG]), m.FEEDBACK: last}
            message.content = RecordDict({**dict(message.content), m.CONFIG: ConfigRecord(config)})

    def _spool(self, answer: Answer, shapes: Shapes, weights: Mapping[str, Tensor]) -> SpooledUpdate:
        site = answer.site
        announced = self.roster.patients[site]
        kind = self.study.aggregation.compression
        wire = wire_shapes(shapes, kind)
        expected = Expected(site, self.study.hash, self.place.round, (m.LOSS, m.SECONDS), wire, announced)
        checked = check_reply(answer.message, expected)
        arrays = each_weight_in_place(answer.message, expected, weights, kind)
        written = write_arrays(self.folder, arrays, weights)
        if self.past.is_replay(site, written.digest, written.norm):
            written.file.close()
            raise NetworkError("MMF-458", "its arrays are those of its last update", site)
        loss, seconds = checked.metrics[m.LOSS], checked.metrics[m.SECONDS]
        return SpooledUpdate(
            site,
            checked.num_examples,
            loss,
            seconds,
            checked.bytes,
            written.norm,
            written.digest,
            written.file,
        )

    def _refuse_by_size(self, updates: list[SpooledUpdate]) -> list[Refusal]:
        norms = [UpdateNorm(u.site, u.norm, steps_of(self.study.training, u.num_examples)) for u in updates]
        refusals = []
        for site, (code, reason) in suspicious_norms(norms, self.past.norms).items():
            self.taken.pop(site).close()
            refusals.append(self.desk.refused(site, NetworkError(code, reason, site), self.place.round))
        return refusals

    def _forget_who_left(self) -> list[Refusal]:
        """Drop updates of sites that left, or were put out, while the round went on."""
        out, enrolled = self.desk.quarantined(), self.desk.enrolled()
        refusals = []
        for site in [site for site in self.taken if site in out or site not in enrolled]:
            self.taken.pop(site).close()
            code = out.get(site, "MMF-463")
            refusals.append(Refusal(site, code, "it may not take part any more since it was asked"))
        return refusals

    def _aggregate(
        self,
        accepted: list[SpooledUpdate],
        refusals: list[Refusal],
        weights: Mapping[str, Tensor],
        size: int,
    ) -> RoundOutcome:
        patients = sum(update.num_examples for update in accepted)
        if patients == 0:
            raise NetworkError("MMF-403", f"nothing was aggregated in round {self.place.round}")
        after = self._moved(mean_of(accepted, self._shapes(weights)), patients, weights)
        loss = self.strategy.mean_loss((update.loss, update.num_examples) for update in accepted)
        return RoundOutcome(after, loss, tuple(accepted), tuple(refusals), size)

    def _moved(
        self, mean: Iterable[Piece], patients: int, weights: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The weights after the round; those that the stage does not train are the same tensors as before."""
        after = dict(weights)
        shapes = self._shapes(weights)
        sent = {name: weights[name] for name in shapes}
        for piece in self.strategy.aggregate_mean(self.place.round_in_stage, mean, patients, sent):
            if not all_finite(piece.values):
                what = f"round {self.place.round}: {piece.name} holds a value that is not finite"
                raise ModelError("MMF-604", what)
            if after[piece.name] is weights[piece.name]:
                after[piece.name] = torch.empty(shapes[piece.name][0], dtype=shapes[piece.name][1])
            piece.of(after[piece.name].numpy())[...] = piece.values
        if not all(all_finite(t.numpy()) for part in self.strategy.moments() for t in part.values()):
            raise ModelError("MMF-604", f"round {self.place.round}: a moment of the server is not finite")
        return after

    def _shapes(self, weights: Mapping[str, Tensor]) -> Shapes:
        return shapes_of({name: weights[name] for name in self._trained(weights)})

    def _trained(self, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
        study, stage = self.study, self.place.stage
        return trained_parameters(weights, self.block_of, stage, study.privacy, study.model.frozen)
