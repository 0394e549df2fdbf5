"""How many sites a masked sum needs, and what a study cannot ask for together with it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mmfed_common.errors import PrivacyError

if TYPE_CHECKING:
    from mmfed_common.study import Study

LEAST_PEERS = 3
"""With two, each would know the other's update from the sum."""
ROUNDING = 1e-9


def threshold_of(share: float, peers: int) -> int:
    """How many of a round's sites must answer for the sum to be opened: always more than half.

    Parameters
    ----------
    share
        The study's ``secure_threshold``: at least so much of the sites that began the round.
    """
    return max(peers // 2 + 1, math.ceil(share * peers - ROUNDING))


def refuse_unmaskable(study: Study, where: str = "") -> None:
    """Refuse a study that asks for secure aggregation together with what it does not cover.

    Raises
    ------
    PrivacyError
        ``MMF-381`` with compression.
    """
    rule = study.aggregation
    if not rule.secure:
        return
    if rule.compression != "none":
        what = f'the study sets `secure = true` and `compression = "{rule.compression}"`'
        raise PrivacyError("MMF-381", what, where)
