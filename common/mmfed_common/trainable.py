"""Which parameters may move at all: the choices of ``[privacy] trainable``, from few to all.

The noise of a private step grows with the square root of the number of parameters that move, so it pays to
move few. Each choice holds the one before it:

- ``linear``: what enters a task's score in proportion: baselines, the linear clinical path, the weights of
  the tasks, and the additive block's gates; pathway memberships stay as they start;
- ``heads``: also the gates through which the full block enters, so every output of a task;
- ``adapters``: also what is small everywhere else: every bias, every LayerNorm, and the tokens of the
  patient and of absent modalities;
- ``all``: everything.

A stage moves those of its blocks' parameters that the choice names, that its objective reaches, and that no
part of ``[model] frozen`` holds.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

Trainable = Literal["all", "heads", "adapters", "linear"]

BY_SIZE: tuple[Trainable, ...] = ("linear", "heads", "adapters", "all")

_LINEAR = r"clinical\..*|additive\.gates\..*"
_HEADS = rf"{_LINEAR}|full\.gates\..*"
_ADAPTERS = rf"{_HEADS}|.*\.bias|.*norms?\.([^.]*\.)?weight|full\.fusion\.(absent|patient)\.weight"
_NAMES: dict[Trainable, re.Pattern[str]] = {
    "linear": re.compile(_LINEAR),
    "heads": re.compile(_HEADS),
    "adapters": re.compile(_ADAPTERS),
    "all": re.compile(r".*"),
}


def may_move(parameter_name: str, trainable: Trainable) -> bool:
    """Whether a choice names a parameter of the model."""
    return _NAMES[trainable].fullmatch(parameter_name) is not None


Part = Literal["clinical", "additive", "pathways", "embeddings", "attention", "fusion"]
"""Parts that can stay as a released model has them; baselines, gates and task weights always move."""

_PARTS: dict[Part, re.Pattern[str]] = {
    "clinical": re.compile(r"clinical\.linear\..*"),
    "additive": re.compile(r"additive\..*"),
    "pathways": re.compile(r"additive\.pathways\..*"),
    "embeddings": re.compile(r"full\.embeddings\..*"),
    "attention": re.compile(r"full\.layers\..*"),
    "fusion": re.compile(r"full\.(pools|fusion)\..*"),
}

_REACHED: dict[str, re.Pattern[str]] = {
    "outcomes": re.compile(r"(?!full\.(decoders|contrast)\.).*"),
    "masked_nodes": re.compile(r"full\.(?!(gates|contrast)\.).*"),
    "contrastive": re.compile(r"full\.(?!(gates|decoders)\.).*"),
}


def is_frozen(parameter_name: str, frozen: Collection[Part]) -> bool:
    """Whether one of the frozen parts holds a parameter of the model."""
    return any(_PARTS[part].fullmatch(parameter_name) is not None for part in frozen)


def is_reached(parameter_name: str, objective: str) -> bool:
    """Whether the loss of an objective depends on a parameter of the model, at level full."""
    return _REACHED[objective].fullmatch(parameter_name) is not None
