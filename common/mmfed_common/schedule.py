"""Where a round stands: its stage, its learning rate and the parameters that it trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import get_args

from mmfed_common.study import Level, Privacy, Stage, Training
from mmfed_common.trainable import Part, is_frozen, is_reached, may_move


@dataclass(frozen=True)
class Place:
    """One round's place in a study.

    Attributes
    ----------
    round
        Counted from 1 over all stages.
    stage_index, stage
        The stage it belongs to.
    round_in_stage
        Counted from 1.
    last_of_stage
        Number of the stage's last round.
    """

    round: int
    stage_index: int
    stage: Stage
    round_in_stage: int
    last_of_stage: int

    @staticmethod
    def of(training: Training, round_number: int) -> Place:
        """Find a round.

        Raises
        ------
        ValueError
            When the study has no such round.
        """
        index, stage = training.stage_of(round_number)
        before = sum(earlier.rounds for earlier in training.stages[:index])
        return Place(round_number, index, stage, round_number - before, before + stage.rounds)

    def learning_rate(self, training: Training, epoch: int) -> float:
        """Learning rate of one local epoch, counted from 0; cosine runs over the epochs of the stage."""
        if training.schedule == "constant":
            return self.stage.learning_rate
        done = (self.round_in_stage - 1) * training.local_epochs + epoch
        share = done / (self.stage.rounds * training.local_epochs)
        return self.stage.learning_rate * 0.5 * (1.0 + math.cos(math.pi * share))


def trained_parameters(
    names: Iterable[str],
    block_of: Callable[[str], str],
    stage: Stage,
    privacy: Privacy,
    frozen: Collection[Part],
) -> tuple[str, ...]:
    """Names of the parameters that a stage trains, sorted: the only ones that travel up.

    Those of the stage's blocks that its objective reaches, that ``trainable`` names, with and without
    differential privacy, and that are not frozen.
    """
    blocks, choice, objective = stage.trained_blocks, privacy.trainable, stage.objective
    return tuple(
        sorted(
            name
            for name in names
            if block_of(name) in blocks
            and is_reached(name, objective)
            and may_move(name, choice)
            and not is_frozen(name, frozen)
        )
    )


def used_parameters(names: Iterable[str], block_of: Callable[[str], str], stage: Stage) -> tuple[str, ...]:
    """Names of the parameters that a stage computes with, sorted: the only ones that travel down."""
    levels = get_args(Level)
    used = levels[: levels.index(stage.level) + 1]
    return tuple(
        sorted(name for name in names if block_of(name) in used and is_reached(name, stage.objective))
    )
