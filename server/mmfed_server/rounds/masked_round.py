"""One round of training of which the server learns only the sum over its sites."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.masking.layout import Layout
from mmfed_common.masking.shared_noise import shares_noise
from mmfed_common.masking.stream import Vector
from mmfed_server.guard import Checked
from mmfed_server.rounds.exchange import Refusal
from mmfed_server.rounds.masked_exchange import MaskedExchange, NotOpenedError, OpenedSums
from mmfed_server.rounds.roster import sample_sites
from mmfed_server.rounds.spool import PIECE, Piece, SpooledUpdate
from mmfed_server.rounds.training_round import MOST_ATTEMPTS, RoundOutcome, TrainingRound


@dataclass
class MaskedRound(TrainingRound):
    """Runs one round with secure aggregation; takes and gives what :class:`TrainingRound` does.

    Where too few sites are left nothing is opened, and the round is tried again from new keys. Once sites
    were asked to open a sum, only with the very same ones: they open no other of this round.

    Attributes
    ----------
    sums
        Remembers which sites were asked.
    """

    sums: OpenedSums = field(kw_only=True)

    def run(self, weights: Mapping[str, Tensor], scaling: Mapping[str, Tensor]) -> RoundOutcome:
        """Train and aggregate; repeat with new keys while too few sites answer. It may be called again.

        Raises
        ------
        NetworkError
            ``MMF-403`` when no sum could be opened, several times.
        ModelError
            ``MMF-604`` when the aggregate is not finite.
        """
        exchange = MaskedExchange(self.study, self.desk, self.roster, self.place.round, self.sums)
        refusals: list[Refusal] = []
        why = ""
        for attempt in range(MOST_ATTEMPTS):
            refusals = self.roster.refresh(self.desk, self.place.round)
            chosen = sample_sites(self.study, self.roster.eligible, self.place.round, attempt)
            if exchange.opened:
                chosen = tuple(site for site in exchange.opened if site in self.roster.eligible)
            try:
                return self._attempt(exchange, chosen, weights, scaling, refusals)
            except NotOpenedError as error:
                why = str(error)
            self.report(attempt + 1, refusals)
        reasons = "".join(f"\n  {refusal.site}: {refusal}" for refusal in refusals)
        what = f"the sum of round {self.place.round} was not opened in {MOST_ATTEMPTS} attempts: {why}"
        raise NetworkError("MMF-403", f"{what}{reasons}")

    def _attempt(
        self,
        exchange: MaskedExchange,
        chosen: tuple[str, ...],
        weights: Mapping[str, Tensor],
        scaling: Mapping[str, Tensor],
        refusals: list[Refusal],
    ) -> RoundOutcome:
        layout = Layout.of(self._shapes(weights), self.study, self.place)
        parties = exchange.begin(chosen, refusals)
        messages, size = self._messages(parties.senders, weights, scaling)
        names = self.roster.name_of(parties.senders)
        for message in messages:
            exchange.give(parties, message, names[message.metadata.dst_node_id])
        answers = self.desk.ask(messages, names, self.place.round, f"train {self.place.stage_index}")
        total = layout.empty()

        def add(vector: Vector) -> None:
            np.add(total, vector, out=total)

        metrics = (m.LOSS, m.SECONDS)
        checked = exchange.add(parties, answers, metrics, layout.arrays, add, refusals)
        exchange.open(parties, total, refusals)
        announced = sum(self.roster.patients[site] for site in parties.alive)
        if not layout.is_possible(total, announced, len(parties.alive)):
            raise exchange.refuse_impossible(parties, refusals)
        patients = layout.patients(total)
        mean = _mean(total, layout, weights, patients, self._decay())
        after = self._moved(mean, patients, weights)
        accepted = tuple(self._accepted(site, known) for site, known in sorted(checked.items()))
        return RoundOutcome(after, layout.mean_loss(total), accepted, tuple(refusals), size)

    def _decay(self) -> dict[str, float]:
        """By how much of itself each weight shrinks, where sites send gradients and take no step.

        What a site's step of gradient descent would do, and the same at every site. It looks at no patient,
        so it costs no privacy; masked numbers have room for gradients alone.
        """
        if not shares_noise(self.study):
            return {}
        share = self.place.learning_rate(self.study.training, 0) * self.place.stage.weight_decay
        return dict.fromkeys(self.shrinking, share)

    def _accepted(self, site: str, checked: Checked) -> SpooledUpdate:
        """What is known of an update of which nothing is known."""
        return SpooledUpdate(
            site=site,
            num_examples=self.roster.patients[site],
            loss=0.0,
            seconds=checked.metrics[m.SECONDS],
            bytes=checked.bytes,
            norm=0.0,
            digest="",
            file=io.BytesIO(),
        )


def _mean(
    total: Vector, layout: Layout, weights: Mapping[str, Tensor], patients: int, decay: Mapping[str, float]
) -> Iterator[Piece]:
    """The weights that were sent plus the mean change, less decay, some numbers at a time, sorted by name."""
    for name, part in layout.parts(total):
        sent = weights[name].numpy()
        kept = 1.0 - decay.get(name, 0.0)
        for start in range(0, max(part.size, 1), PIECE):
            change = layout.changes.decode(part[start : start + PIECE]) / patients
            values = (sent.reshape(-1)[start : start + PIECE] * kept + change).astype(sent.dtype)
            whole = part.size <= PIECE
            yield Piece(name, None if whole else start, values.reshape(sent.shape) if whole else values)
