"""An update as it travels: as it is, or compressed where the study asks for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mmfed_client.training.feedback import Feedback, digest_of
from mmfed_client.training.local import LocalUpdate
from mmfed_common.arrays import Shapes, UnexpectedArraysError
from mmfed_common.compression import Compression, compressed, restored, wire_shapes
from mmfed_common.errors import ModelError

logger = logging.getLogger(__name__)


def as_sent(
    update: LocalUpdate,
    weights: Mapping[str, Tensor],
    shapes: Shapes,
    kind: Compression,
    feedback: Feedback,
    last_taken: str,
) -> tuple[LocalUpdate, Shapes]:
    """Turn an update into what travels, and keep what that loses before it can leave.

    Parameters
    ----------
    weights
        The weights that were sent to the site.
    shapes
        Of the trained parameters.
    feedback
        What the site's earlier updates lost.
    last_taken
        The digest of the site's update that the server took last in this stage; empty when there is none.

    Returns
    -------
    The update with the arrays that travel, and their shapes.

    Raises
    ------
    ModelError
        ``MMF-604`` when a change is too large for the type in which it travels.
    PrivacyError
        ``MMF-311`` when what is lost cannot be kept.
    """
    if kind == "none":
        return update, shapes
    changes = {name: tensor - weights[name] for name, tensor in update.trained.items()}
    if kind == "int8":
        changes = _with_feedback(changes, feedback, last_taken, shapes)
    sent = compressed(changes, kind)
    try:
        arrive = restored(sent, weights, kind)
    except UnexpectedArraysError as error:
        raise ModelError("MMF-604", f"compressed, the update cannot be used: {error}") from None
    if kind == "int8":
        lost = {name: change - (arrive[name] - weights[name]) for name, change in changes.items()}
        feedback.keep(digest_of(arrive), lost, last_taken)
    return replace(update, trained=sent), wire_shapes(shapes, kind)


def _with_feedback(
    changes: dict[str, Tensor], feedback: Feedback, last_taken: str, shapes: Shapes
) -> dict[str, Tensor]:
    if not last_taken:
        return changes
    lost = feedback.lost(last_taken, shapes)
    if lost is None:
        logger.warning("what rounding lost of the last update is not kept here; the training goes on without")
        return changes
    return {name: torch.add(change, lost[name]) for name, change in changes.items()}
