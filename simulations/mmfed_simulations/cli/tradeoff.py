"""``mmfed-simulate tradeoff``: what differential privacy costs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_common.errors import StudyError
from mmfed_simulations.cli.arguments import (
    CohortFolder,
    DataRoot,
    FoldRuleOption,
    OutFolder,
    StudyFile,
    Workers,
)
from mmfed_simulations.cli.progress import trainings_bar


class Noise(StrEnum):
    """Who adds the noise."""

    site = "site"
    shared = "shared"


def tradeoff(
    study: StudyFile,
    cohort: CohortFolder,
    out: OutFolder,
    delta: Annotated[float, typer.Option(help="δ of each site: below 1 / its patients.")],
    data: DataRoot = None,
    epsilon: Annotated[
        list[float] | None, typer.Option(help="ε of each site; may be given again. By default 8, 3 and 1.")
    ] = None,
    trainable: Annotated[
        list[str] | None,
        typer.Option(help="What moves: linear, heads, adapters, all; may be given again. By default each."),
    ] = None,
    noise: Annotated[
        list[Noise] | None,
        typer.Option(
            help="site: each site adds all of it; shared: each a share, under secure aggregation; may be "
            "given again. By default site."
        ),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="How often each is trained, with other noise.")] = 3,
    folds: FoldRuleOption = None,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Train a study with and without differential privacy, and print what each ε costs.

    Every private variant is trained on the same folds as the one without privacy, several times, because
    noise is chance. The same command goes on after an interruption.

    Examples:

        mmfed-simulate tradeoff study.toml --cohort sites --out t --delta 1e-3
        mmfed-simulate tradeoff study.toml --cohort sites --out t --delta 1e-3 --epsilon 3 --draws 5
        mmfed-simulate tradeoff study.toml --cohort sites --out t --delta 1e-3 --noise site --noise shared
    """
    from mmfed_common.trainable import BY_SIZE
    from mmfed_simulations.cli.loading import load
    from mmfed_simulations.evaluation.tradeoff import plain_costs, tradeoff_table
    from mmfed_simulations.evaluation.tradeoff import tradeoff as measure

    loaded = load(study, cohort, data)
    unknown = sorted(set(trainable or ()) - set(BY_SIZE))
    if unknown:
        raise StudyError("MMF-501", f"--trainable {unknown[0]} is none of {', '.join(BY_SIZE)}")
    with trainings_bar() as progress:
        costs = measure(
            loaded.study,
            loaded.cohort,
            loaded.topology,
            out,
            epsilons=epsilon or (8.0, 3.0, 1.0),
            delta=delta,
            trainables=[choice for choice in BY_SIZE if choice in (trainable or BY_SIZE)],
            noises=[one.value for one in noise or (Noise.site,)],
            draws=draws,
            folds=None if folds is None else folds.value,
            workers=workers,
            progress=progress,
            files=study.parent,
        )
    if as_json:
        print_json({"costs": plain_costs(costs)})
    else:
        stdout().print(tradeoff_table(costs))
