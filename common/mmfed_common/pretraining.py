"""What a study says about training without outcomes, and about starting from a released model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mmfed_common.contract import Section

Objective = Literal["outcomes", "masked_nodes", "contrastive"]
"""What a stage's loss is about: the patients' outcomes, hidden values, or telling patients apart."""


class Pretraining(Section):
    """Settings of the stages that train without outcomes.

    ``masked_fraction``: the probability that a node of a patient (a gene, a clinical feature, a tile) is
    hidden and to be filled in. ``temperature`` divides the similarities of views; ``feature_noise`` is the
    deviation of what is added to the standardised values of a view, ``edge_dropout`` the probability that an
    edge is missing in it.
    """

    masked_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.2
    feature_noise: Annotated[float, Field(ge=0, le=10)] = 0.3
    edge_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2


class StartFrom(Section):
    """The released model that the weights start from: its folder beside the study, and its hash."""

    file: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
