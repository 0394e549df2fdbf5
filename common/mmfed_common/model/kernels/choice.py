"""Which form of the sparse operations runs: fused on CPU, compiled on GPU, plain where neither can."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from mmfed_common.error_codes import CODES
from mmfed_common.model.edges import SharedEdges
from mmfed_common.model.kernels import plain

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kernels:
    """One form of the three sparse operations; see :mod:`mmfed_common.model.kernels.plain` for each."""

    name: str
    attend: Callable[[Tensor, Tensor, Tensor | None, SharedEdges], Tensor]
    pool: Callable[[Tensor, Tensor, SharedEdges], Tensor]
    score: Callable[[Tensor, Tensor, SharedEdges], Tensor]


PLAIN = Kernels("plain", plain.attend, plain.pool, plain.score)


def choose(wanted: str, device: torch.device) -> Kernels:
    """Give the wanted form for a device.

    Parameters
    ----------
    wanted
        ``"auto"``: fused on CPU, compiled elsewhere. ``"plain"``, ``"fused"``, ``"compiled"``: that form.
    device
        Where the tensors lie.

    Returns
    -------
    Kernels
        The wanted form, or the plain one with one warning ``MMF-607`` where it is not available.
    """
    if wanted == "plain":
        return PLAIN
    if wanted == "auto":
        wanted = "fused" if device.type == "cpu" else "compiled"
    if wanted == "fused":
        return _fused(device.type)
    return _compiled(device.type)


@cache
def _fused(device: str) -> Kernels:
    if device != "cpu":
        return _fall_back(f"the fused kernels run on the CPU, not on {device}")
    if importlib.util.find_spec("numba") is None:
        return _fall_back("numba is not installed")
    from mmfed_common.model.kernels.fused import attend, pool, score

    return Kernels("fused", attend, pool, score)


@cache
def _compiled(device: str) -> Kernels:
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        return _fall_back("torch.compile needs triton on a GPU")

    # Edges are passed as tensors: on a module torch.compile would specialise, once for every relation.
    attending = torch.compile(plain.attend_over, dynamic=True)
    pooling = torch.compile(plain.pool_over, dynamic=True)
    scoring = torch.compile(plain.score_over, dynamic=True)

    def attend(values: Tensor, attention: Tensor, target_score: Tensor | None, edges: SharedEdges) -> Tensor:
        return attending(values, attention, target_score, edges.source, edges.target, edges.targets)

    def pool(values: Tensor, standing: Tensor, edges: SharedEdges) -> Tensor:
        return pooling(values, standing, edges.source, edges.target, edges.targets)

    def score(values: Tensor, weights: Tensor, edges: SharedEdges) -> Tensor:
        return scoring(values, weights, edges.source, edges.target, edges.targets)

    return Kernels("compiled", attend, pool, score)


@cache
def _fall_back(reason: str) -> Kernels:
    code = CODES["MMF-607"]
    LOGGER.warning("MMF-607: %s %s (%s)", code.meaning, code.next_step, reason)
    return PLAIN
