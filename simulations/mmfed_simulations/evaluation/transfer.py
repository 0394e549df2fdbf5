"""What a released model is worth to a new study: fine-tuned against trained from scratch, with few patients.

Both are trained on the same part of each fold's training patients and scored on the same held-out patients.
The part is chosen by a hash of the patient id, so that a larger part holds the smaller one, and nobody who is
held out is looked at for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from mmfed_client.cohort import Cohort
from mmfed_common.bundle import Bundle
from mmfed_common.durable import write_durably
from mmfed_common.errors import StudyError
from mmfed_common.heldout import hash_fraction
from mmfed_common.metrics import Censoring, Estimate
from mmfed_common.model_card import format_estimate, metric_name
from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_simulations.evaluation.folds import FoldPlan, FoldRule, plan_folds, training_follow_up
from mmfed_simulations.evaluation.results import without_nan
from mmfed_simulations.evaluation.scores import Scoring
from mmfed_simulations.evaluation.tasks_cache import Progress
from mmfed_simulations.evaluation.tradeoff import METRIC
from mmfed_simulations.evaluation.variants import Variant, train_variants

ARM = "federated"
SCRATCH = "scratch"
RECORD = "transfer.json"
ADDITIVE = "additive"


@dataclass(frozen=True)
class Gain:
    """What one way to train reaches with a part of the training patients.

    Attributes
    ----------
    way
        ``"scratch"``, or the name of a fine-tuning study.
    fraction, patients
        The part of each fold's training patients, and how many that is on average over the folds.
    task, metric
        Which figure.
    figure
        Mean over the folds, with its 95 % bootstrap interval over held-out patients.
    gain
        What it is better by than training from scratch on the same part, paired; for ``"scratch"`` 0.
    """

    way: str
    fraction: float
    patients: float
    task: str
    metric: str
    figure: Estimate
    gain: Estimate


@dataclass(frozen=True)
class TransferResult:
    """Everything that was measured.

    Attributes
    ----------
    study
        Hash of the study that is trained from scratch.
    starts
        Way → hash of the bundle that it starts from.
    held_out
        One sentence: which patients the figures stand on.
    gains
        One entry for each fraction, way and task.
    """

    study: str
    starts: dict[str, str]
    held_out: str
    gains: tuple[Gain, ...]

    def as_dict(self) -> dict[str, Any]:
        """For machines; what is not defined is None."""
        plain: dict[str, Any] = without_nan(asdict(self))
        return plain


def transfer(
    study: Study,
    fine_tuning: Mapping[str, Study],
    cohort: Cohort,
    topology: Topology,
    out: Path,
    *,
    files: Path,
    fractions: Sequence[float] = (0.25, 0.5, 1.0),
    folds: FoldRule | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> TransferResult:
    """Train from scratch and from released models, on parts of the training patients.

    Parameters
    ----------
    study
        What is trained from scratch.
    fine_tuning
        Name → study that starts from a bundle: it may train other stages, with other rates, but reads the
        same contract.
    cohort, topology
        The patients and the graph of both. None of the patients may have trained the bundles.
    files
        Where the bundles lie.
    out
        Finished trainings are kept in ``out/cache``; ``transfer.json`` is written there.
    fractions
        Parts of the training patients; 1 is all of them.
    folds
        As for a comparison.

    Raises
    ------
    StudyError
        ``MMF-511`` when a fine-tuning study starts from nothing or reads another contract.
    MmfedError
        Whatever stops a training.
    """
    _refuse_incomparable(study, fine_tuning)
    plan = plan_folds(study, cohort, folds or ("random" if cohort.folds is None else "cohort"))
    ways = {SCRATCH: study, **fine_tuning}
    variants = {name: Variant(ARM, _Way(way)) for name, way in ways.items()}
    parts = [(fraction, fold) for fraction in sorted(fractions) for fold in plan.folds]
    rows: dict[float, list[pd.DataFrame]] = {}
    sizes: dict[float, list[int]] = {}
    for number, (fraction, fold) in enumerate(parts):
        part, trained = _part_of(plan, fold_marks := plan.held_out(fold), fraction, study.study.seed)
        sizes.setdefault(fraction, []).append(trained)
        tell = _within(progress, number, len(parts), f"{fraction:.0%}, fold {fold.name}")
        few = replace(plan, cohort=part, folds=(fold,))
        found = train_variants(variants, few, topology, out, workers, tell, files)
        rows.setdefault(fraction, []).append(_of_held_out(found, cohort, fold_marks))
    gains = [
        gain
        for fraction, tables in rows.items()
        for gain in _gains(study, plan, pd.concat(tables), fraction, float(np.mean(sizes[fraction])), ways)
    ]
    starts = {name: way.model.start_from.sha256 for name, way in fine_tuning.items() if way.model.start_from}
    result = TransferResult(study.hash, starts, plan.statement, tuple(gains))
    write_durably(out / RECORD, json.dumps(result.as_dict(), indent=1).encode())
    return result


@dataclass(frozen=True)
class _Way:
    """Makes of a fold's study one that trains in this way: same seed, same held-out patients."""

    study: Study

    def __call__(self, fold: Study) -> Study:
        return self.study.with_changes(
            study={"seed": fold.study.seed}, evaluation=fold.evaluation.model_dump(mode="json")
        )


def fine_tuned(
    study: Study, bundle: Bundle, file: str, *, frozen: Sequence[str] = (), share: float = 0.2
) -> Study:
    """Derive the study that starts from a bundle, with a share of the rounds of each stage.

    Parameters
    ----------
    file
        The bundle's folder, as seen from where the study's files lie.
    frozen
        What stays as it is. Where that is the whole additive block, the other stages compute it from the
        start, and those that would train nothing are left out.
    share
        A longer training forgets more of what was taken over; each stage keeps one round at least.

    Raises
    ------
    StudyError
        ``MMF-501`` for a part that is unknown.
    """
    last, stages = study.training.stages[-1].level, []
    for stage in study.training.stages:
        content = {**stage.model_dump(mode="json"), "rounds": max(1, round(share * stage.rounds))}
        if ADDITIVE in frozen:
            content |= {"level": last, "trains": [b for b in stage.trained_blocks if b != ADDITIVE]}
        if content["trains"] or ADDITIVE not in frozen:
            stages.append(content)
    start = {"file": file, "sha256": bundle.hash}
    return study.with_changes(
        model={"start_from": start, "frozen": list(frozen)}, training={"stages": stages}
    )


def _refuse_incomparable(study: Study, fine_tuning: Mapping[str, Study]) -> None:
    for name, way in fine_tuning.items():
        if way.model.start_from is None:
            raise StudyError("MMF-511", "it starts from no bundle", name)
        if way.contract != study.contract:
            raise StudyError("MMF-511", "it reads another contract than the study from scratch", name)
        if name == SCRATCH:
            raise StudyError("MMF-511", f"{SCRATCH!r} is the name of the study without a bundle", name)


def _part_of(
    plan: FoldPlan, held_out: npt.NDArray[np.bool_], fraction: float, seed: int
) -> tuple[Cohort, int]:
    """The cohort with all held-out patients and a part of the others, and how many these are."""
    cohort = plan.cohort
    ids = cohort.patients.patient_ids
    chosen = np.array([hash_fraction(seed, i, "training part") < fraction for i in ids], dtype=np.bool_)
    keep = np.flatnonzero(held_out | chosen)
    folds = None if cohort.folds is None else tuple(cohort.folds[int(i)] for i in keep)
    part = Cohort(
        cohort.patients.select(torch.from_numpy(keep)),
        tuple(cohort.sites[int(i)] for i in keep),
        folds,
        cohort.warnings,
    )
    return part, int((~held_out[keep]).sum())


def _of_held_out(rows: pd.DataFrame, cohort: Cohort, held_out: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """The rows, after a look that they are those of all held-out patients, in every way."""
    expected = {cohort.patients.patient_ids[int(i)] for i in np.flatnonzero(held_out)}
    for way, own in rows.groupby("arm"):
        if set(own["patient_id"]) != expected:
            raise RuntimeError(f"{way} was not scored on the held-out patients alone")
    return rows


def _within(progress: Progress | None, number: int, parts: int, label: str) -> Progress | None:
    """Progress of one part as part of all of them."""
    if progress is None:
        return None
    tell: Progress = progress
    return lambda done, total, what: tell(number * total + done, parts * total, f"{label}: {what}")


def _gains(
    study: Study,
    plan: FoldPlan,
    predictions: pd.DataFrame,
    fraction: float,
    patients: float,
    ways: Mapping[str, Study],
) -> Iterator[Gain]:
    follow_up = {f.name: Censoring(*training_follow_up(plan.cohort, plan.held_out(f))) for f in plan.folds}
    scoring = Scoring(study, predictions, follow_up)
    for way in ways:
        for task, figures in scoring.estimates(way).items():
            metric = METRIC[task]
            gain = scoring.differences(way, SCRATCH, task)[metric]
            yield Gain(way, fraction, patients, task, metric, figures[metric], gain)


def transfer_table(result: TransferResult) -> Table:
    """One row a part of the patients and a way to train."""
    table = Table(title="starting from a released model", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("of the patients", "trained on", "way", "figure", "value", "against scratch"):
        table.add_column(name, justify="left" if name in ("way", "figure") else "right")
    for gain in result.gains:
        table.add_row(
            f"{gain.fraction:.0%}",
            f"{gain.patients:.0f}",
            gain.way,
            f"{gain.task}, {metric_name(gain.metric)}",
            format_estimate(gain.figure.as_dict()),
            "" if gain.way == SCRATCH else format_estimate(gain.gain.as_dict(), signed=True),
        )
    return table


def transfer_text(result: TransferResult, width: int = 130) -> str:
    """The same as plain text, with what a reader must know."""
    out = StringIO()
    console = Console(file=out, width=width, no_color=True, highlight=False)
    console.print(transfer_table(result))
    console.print(
        f"{result.held_out} Each part of the training patients is chosen by a hash of the patient id, in "
        "the training folds; all ways train on it and are scored on the same held-out patients. Brackets: "
        "95 % bootstrap interval over held-out patients; differences are paired. They hold neither the chance"
        " of training nor that of which patients are in the part.",
        markup=False,
    )
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
