"""What differential privacy costs: the federation at several ε, for each choice of what may move.

Noise is chance: each private variant is trained several times, and its figure is the mean of them. The
brackets are the means of the bootstrap bounds: they hold the chance of the patients, ``spread`` that of
noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from mmfed_client.cohort import Cohort
from mmfed_common.durable import write_durably
from mmfed_common.masking.rules import LEAST_PEERS
from mmfed_common.metrics import Censoring, Estimate
from mmfed_common.model_card import format_estimate, metric_name
from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_common.trainable import BY_SIZE, Trainable
from mmfed_simulations.evaluation.folds import FoldPlan, FoldRule, plan_folds, training_follow_up, usual_rule
from mmfed_simulations.evaluation.results import without_nan
from mmfed_simulations.evaluation.scores import Scoring
from mmfed_simulations.evaluation.tasks_cache import Progress
from mmfed_simulations.evaluation.variants import Variant, train_variants

Noise = Literal["site", "shared"]
ARM = "federated"
WITHOUT_PRIVACY = "∞"
WHOSE: dict[Noise, str] = {"site": "each site", "shared": "all sites"}
METRIC: dict[str, str] = {"survival": "c_index", "response": "auroc", "toxicity": "auroc_macro"}


@dataclass(frozen=True)
class Choice:
    """One way to train: ε (None: without privacy), what may move, who adds the noise, and which draw."""

    epsilon: float | None
    trainable: Trainable
    noise: Noise = "site"
    draw: int = 0

    @property
    def key(self) -> tuple[float | None, Trainable, Noise]:
        """All but the draw."""
        return self.epsilon, self.trainable, self.noise

    @property
    def name(self) -> str:
        """As an arm of the table of predictions."""
        return f"{self.epsilon} {self.trainable} {self.noise} {self.draw}"


WITHOUT = Choice(None, "all")
"""What the others are compared with."""


@dataclass(frozen=True)
class Cost:
    """What one ε and choice cost.

    Attributes
    ----------
    epsilon, trainable, noise
        The guarantee of each site, None without privacy; what moved; and who added the noise.
    task, metric
        Which figure.
    figure, loss
        Mean over the draws, and what is lost against training everything without privacy, on the same
        patients; the bounds are the means of the draws' 95 % bounds.
    spread
        Standard deviation of the figure over the draws of noise; NaN for one draw.
    draws
        How many there were.
    """

    epsilon: float | None
    trainable: Trainable
    noise: Noise
    task: str
    metric: str
    figure: Estimate
    loss: Estimate
    spread: float
    draws: int


def tradeoff(
    study: Study,
    cohort: Cohort,
    topology: Topology,
    out: Path,
    *,
    epsilons: Sequence[float],
    delta: float,
    trainables: Sequence[Trainable] = BY_SIZE,
    noises: Sequence[Noise] = ("site",),
    draws: int = 3,
    folds: FoldRule | None = None,
    workers: int = 2,
    progress: Progress | None = None,
    files: Path | None = None,
) -> list[Cost]:
    """Train the federation with and without differential privacy on the same folds.

    Parameters
    ----------
    study
        With or without differential privacy; its clipping is taken.
    epsilons, delta
        Guarantees of each site.
    noises
        ``"site"``: each site adds all the noise. ``"shared"``: each adds a share, under secure aggregation,
        without sparsity and a clipping of the whole, as such a study must have it.
    draws
        How often each private variant is trained, each time with other noise.
    out
        Finished trainings are kept in ``out/cache``; ``tradeoff.json`` is written there.
    files
        Where the files lie that the study names, such as the bundle that it starts from.

    Raises
    ------
    MmfedError
        Whatever stops a training, e.g. a site too small for an ε.
    """
    rule = folds or usual_rule(cohort)
    plan = plan_folds(study, cohort, rule)
    choices = list(_choices(epsilons, trainables, noises, draws))
    variants = {choice.name: Variant(ARM, partial(_private, choice, delta)) for choice in choices}
    predictions = train_variants(variants, plan, topology, out, workers, progress, files)
    costs = list(_costs(study, plan, choices, predictions))
    about = {"study": study.hash, "held_out": plan.statement, "costs": plain_costs(costs)}
    write_durably(out / "tradeoff.json", json.dumps(about, indent=1).encode())
    return costs


def _choices(
    epsilons: Sequence[float], trainables: Sequence[Trainable], noises: Sequence[Noise], draws: int
) -> Iterator[Choice]:
    yield WITHOUT
    for trainable in trainables:
        if trainable != WITHOUT.trainable:
            yield Choice(None, trainable)
        for epsilon in sorted(epsilons, reverse=True):
            for noise in noises:
                for draw in range(draws):
                    yield Choice(epsilon, trainable, noise, draw)


def _private(choice: Choice, delta: float, study: Study) -> Study:
    """The study with a choice's privacy; another draw has another seed."""
    privacy: dict[str, Any] = {"mode": "none", "epsilon": None, "delta": None, "noise": "site"}
    privacy["trainable"] = choice.trainable
    if choice.epsilon is None:
        return study.with_changes(privacy=privacy)
    privacy |= {"mode": "dp", "epsilon": choice.epsilon, "delta": delta, "noise": choice.noise}
    seeded = study.with_changes(study={"seed": study.study.seed + choice.draw})
    if choice.noise == "site":
        return seeded.with_changes(privacy=privacy)
    stages = [stage.model_dump(mode="json") | {"sparsity": 0.0} for stage in study.training.stages]
    return seeded.with_changes(
        privacy=privacy,
        aggregation={"secure": True, "minimum_sites": max(LEAST_PEERS, study.aggregation.minimum_sites)},
        training={"stages": stages, "gradient_clip": 0},
    )


def _costs(
    study: Study, plan: FoldPlan, choices: Sequence[Choice], predictions: pd.DataFrame
) -> Iterator[Cost]:
    follow_up = {f.name: Censoring(*training_follow_up(plan.cohort, plan.held_out(f))) for f in plan.folds}
    scoring = Scoring(study, predictions, follow_up)
    for key in dict.fromkeys(c.key for c in choices):
        same = [c for c in choices if c.key == key]
        found = [scoring.estimates(c.name) for c in same]
        for task in found[0]:
            metric = METRIC[task]
            figures = [estimates[task][metric] for estimates in found]
            losses = [scoring.differences(WITHOUT.name, c.name, task)[metric] for c in same]
            values = [f.estimate for f in figures if f.estimate is not None]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
            yield Cost(*key, task, metric, mean_estimate(figures), mean_estimate(losses), spread, len(same))


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of estimates and of their bounds; not defined where one of them is not."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if len(known) == len(values) else None

    first = estimates[0]
    return replace(
        first,
        estimate=mean([e.estimate for e in estimates]),
        low=mean([e.low for e in estimates]),
        high=mean([e.high for e in estimates]),
    )


def plain_costs(costs: Sequence[Cost]) -> list[dict[str, Any]]:
    """The same for machines; what is not defined is None."""
    plain: list[dict[str, Any]] = without_nan([asdict(cost) for cost in costs])
    return plain


def tradeoff_table(costs: Sequence[Cost]) -> Table:
    """One row an ε and choice of what moves."""
    table = Table(title="what differential privacy costs", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("moves", "ε of a site", "noise of", "task", "figure", "loss", "sd of the noise"):
        table.add_column(name, justify="left" if name in ("moves", "noise of", "task") else "right")
    for cost in costs:
        table.add_row(
            cost.trainable,
            WITHOUT_PRIVACY if cost.epsilon is None else f"{cost.epsilon:g}",
            "" if cost.epsilon is None else WHOSE[cost.noise],
            f"{cost.task}, {metric_name(cost.metric)}",
            format_estimate(cost.figure.as_dict()),
            ""
            if cost.epsilon is None and cost.trainable == WITHOUT.trainable
            else format_estimate(cost.loss.as_dict(), signed=True),
            "" if math.isnan(cost.spread) else f"{cost.spread:.3f}",
        )
    return table
