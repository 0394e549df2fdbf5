"""What is masked, as whole numbers: patients and loss first, then each weight's change."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from mmfed_client.privacy import NoisyShare
from mmfed_client.training.local import LocalUpdate
from mmfed_common.masking.layout import HEAD, Layout
from mmfed_common.masking.stream import Vector

logger = logging.getLogger(__name__)

BLOCK = 2**14
"""How many numbers are written at a time: they stay in the processor's cache."""


def numbers_of(update: LocalUpdate, weights: Mapping[str, Tensor], layout: Layout) -> Vector:
    """Write an update as fixed-point numbers, each change times the site's patients.

    Parameters
    ----------
    weights
        Those that were sent; what leaves is the difference from them.

    Raises
    ------
    ValueError
        When the site has more patients than sums can hold.
    """
    vector = layout.empty()
    layout.write_head(vector, update.patients, update.loss)
    clipped = 0
    for name, part in layout.parts(vector):
        trained, sent = update.trained[name].numpy().reshape(-1), weights[name].cpu().numpy().reshape(-1)
        for start in range(0, part.size, BLOCK):
            block = slice(start, start + BLOCK)
            change = np.subtract(trained[block], sent[block], dtype=np.float64)
            clipped += layout.changes.clipped(change)
            part[block] = layout.changes.encode(change, update.patients)
    if clipped:
        share = 100 * clipped / max(1, layout.size)
        logger.warning(
            "%d changes of weights (%.3g %%) were clipped to ±%g", clipped, share, layout.changes.largest
        )
    return vector


def share_numbers(share: NoisyShare, layout: Layout) -> Vector:
    """Write a share of a noisy sum, which is whole numbers already; no loss.

    Raises
    ------
    ValueError
        When the site has more patients than sums can hold.
    """
    vector = layout.empty()
    layout.write_head(vector, share.patients, 0.0)
    vector[HEAD:] = share.changes
    return vector
