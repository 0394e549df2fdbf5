"""The sums of features before round 1, of which the server learns only those over all sites."""

from __future__ import annotations

import math

import numpy as np
import torch
from flwr.app import Message

from mmfed_common import messages as m
from mmfed_common.arrays import Shapes
from mmfed_common.errors import NetworkError
from mmfed_common.masking.fields import MASKED
from mmfed_common.masking.stream import Vector
from mmfed_common.masking.wide import HALVES, add_wide, add_wide_masks, decode_wide
from mmfed_common.scaling import Moments
from mmfed_common.study import Study
from mmfed_server.masking.parties import Parties
from mmfed_server.rounds.desk import Desk
from mmfed_server.rounds.exchange import Refusal, request
from mmfed_server.rounds.masked_exchange import MaskedExchange, NotOpenedError, OpenedSums
from mmfed_server.rounds.roster import Roster
from mmfed_server.rounds.training_round import MOST_ATTEMPTS

MOST_VALUES = 2.0**40
"""More than any federation has of one feature; what is left of masks is larger by far, almost surely."""


def masked_scaling(
    desk: Desk, study: Study, roster: Roster, shapes: Shapes, sums: OpenedSums
) -> tuple[Moments, list[str], list[Refusal]]:
    """Sum the moments of all sites that take part, under masks.

    Parameters
    ----------
    shapes
        Of the moments that each site has.
    sums
        Remembers which sites were asked to open them.

    Returns
    -------
    moments, sites, refusals
        Their sum, whose it is, and why others' are not in it.

    Raises
    ------
    NetworkError
        ``MMF-403`` when no sum could be opened, several times.
    """
    exchange = MaskedExchange(study, desk, roster, 0, sums)
    refusals: list[Refusal] = []
    why = ""
    for _ in range(MOST_ATTEMPTS):
        refusals = roster.refresh(desk)
        try:
            parties = exchange.begin(roster.eligible, refusals)
            total = _summed(exchange, parties, study, shapes, refusals)
            moments = _moments(total, shapes)
            if impossible(moments):
                raise exchange.refuse_impossible(parties, refusals)
            return moments, sorted(parties.alive), refusals
        except NotOpenedError as error:
            why = str(error)
    reasons = "".join(f"\n  {refusal.site}: {refusal}" for refusal in refusals)
    raise NetworkError("MMF-403", f"the scaling's sums were not opened: {why}{reasons}")


def impossible(moments: Moments) -> str:
    """The node type of counts, sums and sums of squares that no numbers have; empty when there is none."""
    for name, count in moments.count.items():
        square, total = moments.square[name], moments.total[name]
        slack = 1e-6 * (1.0 + square * count)
        counts = (count >= 0) & (count <= MOST_VALUES)
        if not bool((counts & (square >= 0) & (total**2 <= square * count + slack)).all()):
            return name
    return ""


def _summed(
    exchange: MaskedExchange, parties: Parties, study: Study, shapes: Shapes, refusals: list[Refusal]
) -> Vector:
    roster, messages = exchange.roster, list[Message]()
    for site in parties.senders:
        message = request(m.MOMENTS, roster.node_of[site], study.hash, 0)
        exchange.give(parties, message, site)
        messages.append(message)
    size = HALVES * sum(math.prod(shape) for shape, _ in shapes.values())
    total = np.zeros(size, np.int64)

    def add(vector: Vector) -> None:
        add_wide(total, vector)

    answers = exchange.desk.ask(messages, roster.name_of(parties.senders), 0, m.MOMENTS)
    exchange.add(parties, answers, (), {MASKED: ((size,), torch.int64)}, add, refusals)
    exchange.open(parties, total, refusals, add_wide_masks)
    return total


def _moments(total: Vector, shapes: Shapes) -> Moments:
    numbers, start = torch.from_numpy(decode_wide(total)), 0
    arrays = {}
    for name in sorted(shapes):
        shape = shapes[name][0]
        arrays[name] = numbers[start : start + math.prod(shape)].reshape(shape)
        start += math.prod(shape)
    return Moments.from_arrays(arrays)
