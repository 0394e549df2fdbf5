"""Overall survival as discrete-time hazards over fixed public bins.

The likelihood is that of Gensheimer & Narasimhan (PeerJ 2019) and of LogisticHazard (Kvamme & Borgan 2021):
a sum over patients, so that clipping per patient means what it says. Bins are given by their upper edges in
days; the first bin starts at 0. Within a bin the hazard rate is taken as constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_RATE = 1e-4


def hazard_loss(
    logits: Tensor,
    time_days: Tensor,
    event: Tensor,
    bins: Sequence[float],
    censoring: Literal["bin", "day"] = "bin",
) -> Tensor:
    """Negative log-likelihood of each patient.

    A patient who dies in a bin survives all bins before it and dies in it. A censored patient survives the
    bins that lie wholly before the last day seen, and with ``censoring = "day"`` also the part of a bin that
    was lived, as :func:`survival_at` has it. Without that part nobody who leaves within a bin counts as
    having been at risk in it, and hazards come out too high where many leave. Times beyond the last edge are
    censored at the last edge.

    Parameters
    ----------
    logits
        ``(patients, bins)`` logits of the hazard.
    time_days, event
        ``(patients,)`` follow-up in days; 1 where the event happened.
    bins
        Upper edges in days, increasing.
    censoring
        How far a censored patient counts.

    Returns
    -------
    Tensor
        ``(patients,)``.
    """
    edges = torch.as_tensor(bins, dtype=torch.float64, device=logits.device)
    time = time_days.to(torch.float64)
    died_in = torch.searchsorted(edges, time, right=False)
    died = (event > 0) & (died_in < len(edges))
    survived = torch.where(died, died_in, torch.searchsorted(edges, time, right=True))
    number = torch.arange(len(edges), device=logits.device)
    at_risk = number < survived[:, None]
    dies = (number == died_in[:, None]) & died[:, None]
    cost = torch.where(at_risk, functional.softplus(logits), 0.0)
    if censoring == "day":
        starts = functional.pad(edges, (1, 0))[:-1]
        part = ((time[:, None] - starts) / (edges - starts)).clamp(0.0, 1.0).to(logits.dtype)
        cost = torch.where(died[:, None], cost, part * functional.softplus(logits))
    return (cost + torch.where(dies, functional.softplus(-logits), 0.0)).sum(dim=1)


def survival_curve(logits: Tensor) -> Tensor:
    """Probability to survive each bin's upper edge, ``(patients, bins)``."""
    return _log_survival(logits).exp()


def survival_at(logits: Tensor, bins: Sequence[float], horizons_days: Sequence[float]) -> Tensor:
    """Probability to survive each horizon, ``(patients, horizons)``; constant hazard rate within a bin.

    A horizon beyond the last edge is read at the last edge.
    """
    edges = torch.as_tensor([0.0, *bins], dtype=logits.dtype, device=logits.device)
    horizons = torch.as_tensor(horizons_days, dtype=logits.dtype, device=logits.device).clamp(max=edges[-1])
    upper = torch.searchsorted(edges, horizons).clamp(min=1)
    share = (horizons - edges[upper - 1]) / (edges[upper] - edges[upper - 1])
    log_survival = functional.pad(_log_survival(logits), (1, 0))
    start, end = log_survival[:, upper - 1], log_survival[:, upper]
    return torch.exp(start + (end - start) * share)


def restricted_mean_survival(logits: Tensor, bins: Sequence[float]) -> Tensor:
    """Area under the survival curve up to the last edge, ``(patients,)`` in days."""
    edges = torch.as_tensor([0.0, *bins], dtype=logits.dtype, device=logits.device)
    rate = functional.softplus(logits)
    start = functional.pad(_log_survival(logits), (1, 0))[:, :-1].exp()
    small = rate < SMALLEST_RATE
    safe = torch.where(small, 1.0, rate)
    mean_within = torch.where(small, 1.0 - rate / 2, -torch.expm1(-safe) / safe)
    return (start * mean_within * edges.diff()).sum(dim=1)


def risk_score(logits: Tensor, bins: Sequence[float]) -> Tensor:
    """Negative restricted mean survival time, ``(patients,)`` in days: higher means earlier death."""
    return -restricted_mean_survival(logits, bins)


def _log_survival(logits: Tensor) -> Tensor:
    return -functional.softplus(logits).cumsum(dim=1)
