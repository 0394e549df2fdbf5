"""The exchange before round 1 that gives all sites one scale: the pooled means and deviations."""

from __future__ import annotations

import torch
from torch import Tensor

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.scaling import Moments, Scaling
from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_server.guard import Expected, check_reply, each_array
from mmfed_server.rounds.desk import UNREADABLE, Desk
from mmfed_server.rounds.exchange import Refusal, by_site, request
from mmfed_server.rounds.masked_exchange import OpenedSums
from mmfed_server.rounds.masked_scaling import impossible, masked_scaling
from mmfed_server.rounds.roster import Roster
from mmfed_server.rounds.training_round import MOST_ATTEMPTS


def federated_scaling(
    desk: Desk, study: Study, topology: Topology, roster: Roster, sums: OpenedSums
) -> tuple[Scaling, list[str], list[Refusal]]:
    """Sum the moments of all sites that take part, in the order of their names.

    Parameters
    ----------
    sums
        Remembers which sites were asked to open masked ones.

    Returns
    -------
    scaling, sites, refusals
        The scaling, whose sums are in it, and why others' are not.

    Raises
    ------
    NetworkError
        ``MMF-403`` when fewer sites than the study's minimum gave them, several times.
    """
    reference = Scaling.from_reference(study.contract, topology).mean
    shapes = {
        f"moments.{statistic}.{name}": (tuple(mean.shape), torch.float64)
        for name, mean in reference.items()
        for statistic in ("count", "total", "square")
    }
    if study.aggregation.secure:
        moments, taken, refusals = masked_scaling(desk, study, roster, shapes, sums)
        return Scaling.from_moments(moments, study.contract, topology), taken, refusals
    refusals = []
    for _ in range(MOST_ATTEMPTS):
        refusals = roster.refresh(desk)
        sites = roster.eligible
        requests = [request(m.MOMENTS, roster.node_of[site], study.hash, 0) for site in sites]
        answers, missing = by_site(desk.ask(requests, roster.name_of(sites), 0, m.MOMENTS))
        refusals += missing
        parts: dict[str, Moments] = {}
        for answer in answers:
            announced = roster.patients[answer.site]
            expected = Expected(answer.site, study.hash, 0, (), shapes, announced)
            try:
                check_reply(answer.message, expected)
                parts[answer.site] = _plausible(dict(each_array(answer.message, expected)), answer.site)
            except (NetworkError, *UNREADABLE) as error:
                refusals.append(desk.refused(answer.site, error, 0))
        if len(parts) >= study.aggregation.minimum_sites:
            pooled = Moments.add(list(parts.values()))
            return Scaling.from_moments(pooled, study.contract, topology), list(parts), refusals
    reasons = "".join(f"\n  {refusal.site}: {refusal}" for refusal in refusals)
    least = study.aggregation.minimum_sites
    raise NetworkError("MMF-403", f"the scaling needs {least} sites{reasons}")


def _plausible(arrays: dict[str, Tensor], site: str) -> Moments:
    moments = Moments.from_arrays(arrays)
    if name := impossible(moments):
        raise NetworkError("MMF-461", f"its moments of {name} belong to no numbers", site)
    return moments
