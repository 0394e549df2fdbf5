"""``mmfed-simulate transfer``: what a released model is worth to a study with few patients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_simulations.cli.arguments import (
    CohortFolder,
    DataRoot,
    FoldRuleOption,
    OutFolder,
    StudyFile,
    Workers,
)
from mmfed_simulations.cli.progress import trainings_bar


def transfer(
    study: StudyFile,
    bundle: Annotated[Path, typer.Option("--bundle", help="The released model to start from.")],
    cohort: CohortFolder,
    out: OutFolder,
    data: DataRoot = None,
    frozen: Annotated[
        list[str] | None,
        typer.Option(
            help="A part that stays, as [model] frozen names it: one more way, with the first share."
        ),
    ] = None,
    share: Annotated[
        list[float] | None,
        typer.Option(
            min=0.01,
            max=1,
            help="Share of each stage's rounds for fine-tuning; each is one way. [default: 0.2]",
        ),
    ] = None,
    fraction: Annotated[
        list[float] | None,
        typer.Option(min=0.01, max=1, help="Part of the training patients; by default 0.25, 0.5 and 1."),
    ] = None,
    folds: FoldRuleOption = None,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Train from scratch and from a released model, on parts of the training patients.

    All ways are scored on the same held-out patients, with paired differences. The same command goes on after
    an interruption. Writes transfer.json and transfer.txt to --out.

    Examples:

        mmfed-simulate transfer luad.toml --bundle pretrained --cohort luad --out luad-transfer
        mmfed-simulate transfer luad.toml --bundle p --cohort luad --out t --frozen additive --fraction 0.25
    """
    from mmfed_common.bundle import load_bundle
    from mmfed_common.durable import write_durably
    from mmfed_simulations.cli.loading import load
    from mmfed_simulations.evaluation import transfer as evaluation

    released = load_bundle(bundle)
    loaded = load(study, cohort, data)
    shares = share or [0.2]
    ways = {
        f"fine-tuned, {part:.0%} of the rounds": evaluation.fine_tuned(
            loaded.study, released, bundle.name, share=part
        )
        for part in shares
    }
    for name in frozen or []:
        ways[f"{name} frozen, {shares[0]:.0%} of the rounds"] = evaluation.fine_tuned(
            loaded.study, released, bundle.name, frozen=(name,), share=shares[0]
        )
    with trainings_bar() as progress:
        found = evaluation.transfer(
            loaded.study,
            ways,
            loaded.cohort,
            loaded.topology,
            out,
            files=bundle.resolve().parent,
            fractions=tuple(fraction) if fraction else (0.25, 0.5, 1.0),
            folds=None if folds is None else folds.value,
            workers=workers,
            progress=progress,
        )
    write_durably(out / "transfer.txt", evaluation.transfer_text(found).encode())
    if as_json:
        print_json(found.as_dict())
        return
    stdout().print(evaluation.transfer_table(found))
