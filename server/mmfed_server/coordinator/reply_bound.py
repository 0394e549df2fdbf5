"""How long an answer of a site can be at most: what the server keeps of one site is bounded by the study."""

from __future__ import annotations

from mmfed_common.errors import ModelError
from mmfed_common.model import build_model
from mmfed_common.scaling import MOMENTS, Scaling
from mmfed_common.study import Study
from mmfed_common.topology import Topology

ROOM = 2**20
"""Bytes of an answer besides its arrays: table, headers, metrics, seal. Also the bound without a study."""
TIMES_THE_WEIGHTS = 2
"""Masked changes take eight bytes where weights take four."""
MOMENT_BYTES = 16
"""Of a sum under masks; without them it is eight."""


def most_reply_bytes(study: Study, topology: Topology) -> int:
    """Twice the model's weights, the moments of the scaling, and room for the rest; in bytes.

    A study whose model cannot be built has no more than the room: its run ends by itself and says why.
    """
    try:
        weights = build_model(study, topology).state_dict().values()
    except ModelError:
        return ROOM
    features = sum(mean.numel() for mean in Scaling.from_reference(study.contract, topology).mean.values())
    moments = len(MOMENTS) * features * MOMENT_BYTES
    size: int = sum(tensor.numel() * tensor.element_size() for tensor in weights)
    return TIMES_THE_WEIGHTS * size + moments + ROOM
