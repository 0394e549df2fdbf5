"""What a run is: the study, the enrolled sites, where its record lies and who wants to hear of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmfed_common.study import Study
from mmfed_common.topology import Topology


@dataclass(frozen=True)
class RoundReport:
    """What a person wants to know about a round when it ends.

    Attributes
    ----------
    round, rounds
        Its number, counted from 1, and how many the study has.
    stage
        Level of the model that is trained.
    seconds
        How long it took, evaluation included.
    metrics
        ``train_loss`` and, where they were asked for, ``validation_loss`` and ``held_out_loss``: means over
        patients.
    sites
        Names of the sites whose updates were taken.
    refused
        Site → reason, with its code.
    """

    round: int
    rounds: int
    stage: str
    seconds: float
    metrics: Mapping[str, float]
    sites: tuple[str, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class RunPlan:
    """Everything that the server needs to run a study.

    Attributes
    ----------
    study
        The study.
    sites
        Names of the enrolled sites; an answer from any other is refused.
    topology
        The shared graph, for the names and shapes of the weights.
    folder
        The run's folder; the record goes to ``state/`` and ``events.jsonl`` in it.
    resume
        Whether to go on from a record that is there.
    progress
        Called after each round.
    """

    study: Study
    sites: tuple[str, ...]
    topology: Topology
    folder: Path
    resume: bool = False
    progress: Callable[[RoundReport], None] | None = field(default=None, compare=False)
