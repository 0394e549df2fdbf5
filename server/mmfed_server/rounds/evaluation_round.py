"""An exchange that asks the sites for a loss with the present weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, RecordDict
from torch import Tensor

from mmfed_common import messages as m
from mmfed_common.arrays import to_record
from mmfed_common.errors import NetworkError
from mmfed_common.study import Study
from mmfed_server.guard import Expected, check_reply
from mmfed_server.rounds.desk import UNREADABLE, Desk
from mmfed_server.rounds.exchange import Refusal, by_site
from mmfed_server.rounds.roster import Roster


@dataclass(frozen=True)
class PooledLoss:
    """Mean loss over the patients of all sites that may tell it; None when there are none.

    ``sites`` are those whose loss is part of it.
    """

    mean: float | None
    patients: int
    refusals: tuple[Refusal, ...]
    sites: tuple[str, ...] = ()


def pooled_loss(
    desk: Desk,
    study: Study,
    roster: Roster,
    kind: str,
    round_number: int,
    weights: Mapping[str, Tensor],
    scaling: Mapping[str, Tensor],
) -> PooledLoss:
    """Ask every site for the sum of its loss.

    Parameters
    ----------
    kind
        ``EVALUATE_HELD_OUT`` or ``EVALUATE_VALIDATION``.
    """
    roster.leave_out(desk)
    sites = roster.eligible
    content = RecordDict(
        {
            m.ARRAYS: to_record(weights),
            m.CONFIG: ConfigRecord({m.STUDY_HASH: study.hash, m.ROUND: round_number}),
        }
    )
    if scaling:
        content[m.SCALING] = to_record(scaling)
    requests = [Message(content, roster.node_of[site], kind) for site in sites]
    answers, refusals = by_site(desk.ask(requests, roster.name_of(sites), round_number, kind))
    total, patients = 0.0, 0
    told = []
    left = desk.quarantined()
    for answer in answers:
        if answer.site in left:
            refusals.append(Refusal(answer.site, left[answer.site], "it may not take part any more"))
            continue
        expected = Expected(answer.site, study.hash, round_number, (m.LOSS,))
        try:
            checked = check_reply(answer.message, expected)
        except (NetworkError, *UNREADABLE) as error:
            refusals.append(desk.refused(answer.site, error, round_number))
            continue
        total += checked.metrics[m.LOSS]
        patients += checked.num_examples
        if checked.num_examples:
            told.append(answer.site)
    return PooledLoss(total / patients if patients else None, patients, tuple(refusals), tuple(told))
