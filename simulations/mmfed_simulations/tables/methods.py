"""The methods that are switched on and off, one row each: what each changes in a study.

Settings were written down before any of these rows was scored. Rows of the full model get one budget (rounds,
width, learning rate), the same for the row and for what it is compared with; pre-training comes on top.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmfed_common.study import Study
from mmfed_simulations.evaluation.variants import as_is

Change = Callable[[Study], Study]

OURS, FULL = "ours", "full"
"""The two rows that others are compared with: the study as it is, and with the full block after it."""
FULL_ROUNDS = 30
SMALL_MODEL: dict[str, Any] = {"hidden": 16, "heads": 4, "layers": 1, "fusion_layers": 1}
"""Sizes of the full model in these rows: one layer each, so that a row takes minutes on two cores."""
PRETRAINING: dict[str, Any] = {"rounds": 60, "server_learning_rate": 0.01}
"""Training without outcomes, on the cohort's own patients, before the full block learns the outcomes."""
LOCAL_STEPS: dict[str, Any] = {"batch": 32, "local_epochs": 5}
"""What sites do in a round of the classic methods: five passes in steps of 32 patients."""
SEEDS = 3
"""Members of an ensemble."""
YEAR = 365.25
YEARS = [YEAR * year for year in range(1, 11)]
QUARTERS = [YEAR / 4 * quarter for quarter in range(1, 41)]
"""Bins of the hazard over ten years, in place of the studies' own."""


@dataclass(frozen=True)
class Method:
    """One row.

    Attributes
    ----------
    label
        As a reader sees it.
    against
        The row that it is compared with, on the same patients.
    change
        Makes its study of the cohort's.
    arm
        The arm of a comparison that trains it. The full model is trained pooled: federated takes the same
        steps but for what dropout draws, at several times the cost.
    shuffled
        Whether the genes are dealt anew over pathways and gene–gene edges.
    members
        How many trainings, with other seeds, are averaged.
    """

    label: str
    against: str | None
    change: Change
    arm: str = "federated"
    shuffled: bool = False
    members: int = 1


def model(**changes: Any) -> Change:
    """Change keys of ``[model]``."""

    def changed(study: Study) -> Study:
        return study.with_changes(model=changes)

    return changed


def survival(**changes: Any) -> Change:
    """Change keys of ``[contract.survival]``."""

    def changed(study: Study) -> Study:
        assert study.contract.survival is not None
        before = study.contract.survival.model_dump(mode="json")
        return study.with_changes(contract={"survival": before | changes})

    return changed


def full(**changes: Any) -> Change:
    """Add a stage that trains the full block on top of the study's stages, with some keys of ``[model]``."""

    def changed(study: Study) -> Study:
        last = study.training.stages[-1].model_dump(mode="json")
        stage = last | {"level": "full", "rounds": FULL_ROUNDS, "trains": ["full"]}
        stages = [s.model_dump(mode="json") for s in study.training.stages]
        return study.with_changes(model=SMALL_MODEL | changes, training={"stages": [*stages, stage]})

    return changed


def pretrained(objective: str) -> Change:
    """Let the full block learn without outcomes first: :func:`full` with one stage more before its last."""

    def changed(study: Study) -> Study:
        plain = full()(study)
        *stages, last = (s.model_dump(mode="json") for s in plain.training.stages)
        before = last | PRETRAINING | {"objective": objective}
        return plain.with_changes(training={"stages": [*stages, before, last]})

    return changed


def classic(**aggregation: Any) -> Change:
    """Local passes in small batches between rounds, as many passes over the patients in all."""

    def changed(study: Study) -> Study:
        passes = int(LOCAL_STEPS["local_epochs"])
        stages = [
            stage.model_dump(mode="json")
            | {"rounds": max(1, stage.rounds // passes), "learning_rate": 0.1, "server_learning_rate": None}
            for stage in study.training.stages
        ]
        return study.with_changes(aggregation=aggregation, training=LOCAL_STEPS | {"stages": stages})

    return changed


METHODS: Mapping[str, Method] = {
    OURS: Method("the study as it is (clinical + additive)", None, as_is),
    "no-clinical-path": Method("− linear clinical path", OURS, model(clinical_path=False)),
    "plain-genes": Method("− pathways: each gene by itself", OURS, model(pathway_tokens=False)),
    "shuffled-pathways": Method("pathways with shuffled genes", OURS, as_is, shuffled=True),
    "fedavg": Method("FedAvg, five local passes", OURS, classic(strategy="fedavg")),
    "fedprox": Method("FedProx, five local passes", OURS, classic(strategy="fedprox", proximal_mu=0.1)),
    "censoring-day": Method("patients alive count to the day", OURS, survival(censoring="day")),
    "years": Method("years as bins", OURS, survival(bins=YEARS)),
    "years-day": Method("years as bins, to the day", OURS, survival(bins=YEARS, censoring="day")),
    "quarters-day": Method("quarters as bins, to the day", OURS, survival(bins=QUARTERS, censoring="day")),
    FULL: Method("+ full block: graph attention, cross-attention fusion", OURS, full(), arm="pooled"),
    "full-no-graph": Method("full, − graph attention", FULL, full(intra_attention=False), arm="pooled"),
    "full-mean": Method("full, mean instead of cross-attention", FULL, full(fusion="mean"), arm="pooled"),
    "full-plain-pooling": Method(
        "full, plain pooling instead of pathway tokens", FULL, full(pathway_tokens=False), arm="pooled"
    ),
    "full-shuffled": Method(
        "full, knowledge edges and pathways shuffled", FULL, full(), arm="pooled", shuffled=True
    ),
    "full-no-modality-dropout": Method(
        "full, − modality dropout", FULL, full(modality_dropout=0.0), arm="pooled"
    ),
    "full-masked-nodes": Method(
        "full, + pre-training on masked nodes", FULL, pretrained("masked_nodes"), arm="pooled"
    ),
    "full-contrastive": Method(
        "full, + contrastive pre-training", FULL, pretrained("contrastive"), arm="pooled"
    ),
    "full-ensemble": Method(f"full, {SEEDS} seeds averaged", FULL, full(), arm="pooled", members=SEEDS),
}
"""Row → method, in the order of the table."""
