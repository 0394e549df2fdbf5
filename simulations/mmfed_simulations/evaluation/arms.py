"""One arm in one fold: train where needed, predict the held-out patients, give their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmfed_client.prediction import predict_site
from mmfed_client.site import SiteData
from mmfed_common.contract import Contract
from mmfed_common.errors import StudyError
from mmfed_common.model.clinical import CLINICAL
from mmfed_common.patients import PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.study import Stage, Study
from mmfed_common.tasks import survival
from mmfed_common.topology import Topology
from mmfed_simulations.evaluation.arm_names import PERSONALISED, SINGLE_PREFIX
from mmfed_simulations.evaluation.baselines import (
    SURVIVAL_BASELINES,
    applicable,
    fit_baseline,
    fit_logistic,
)
from mmfed_simulations.evaluation.features import FeatureTable
from mmfed_simulations.evaluation.gaps.hidden import Modalities, joined, showing
from mmfed_simulations.evaluation.predictions import (
    KEYS,
    add_survival,
    network_frame,
    predicted_times,
    truth_frame,
)
from mmfed_simulations.evaluation.site_data import join_patients, only_modalities, pooled_site
from mmfed_simulations.run import RunResult, run_study

RELEASED = "released"
"""Not an arm of the table: the federated model trained on everybody."""
MODALITY_SECTIONS: dict[str, tuple[str, ...]] = {
    "clinical_feature": ("demographics", "clinical"),
    "gene": ("gene",),
    "protein": ("protein",),
    "metabolite": ("metabolite",),
    "imaging_feature": ("imaging",),
}


@dataclass
class ArmResult:
    """What an arm gave in one fold.

    Attributes
    ----------
    rows
        Rows of the table of predictions.
    rounds
        Per-round metrics.
    sites
        Site → counts, seconds, bytes, remark.
    facts
        Anything else, e.g. the penalty chosen.
    weights, scaling
        Of the federated model and of the one to release; empty for all others.
    """

    rows: pd.DataFrame
    rounds: list[dict[str, Any]] = field(default_factory=list)
    sites: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    scaling: Scaling | None = None


def default_arms(contract: Contract) -> tuple[str, ...]:
    """Every arm that a study allows, in the order of the table."""
    arms = ["federated", "pooled", "local", PERSONALISED]
    arms += [name for name in (*SURVIVAL_BASELINES, "logistic_clinical") if applicable(name, contract)]
    if len(contract.node_types) > 1:
        arms += [SINGLE_PREFIX + name for name in contract.node_types]
        if contract.survival is not None:
            arms.append("late_fusion")
        arms.append("attention_fusion")
    return tuple(arms)


def run_arm(
    arm: str,
    fold: str,
    study: Study,
    sites: Sequence[SiteData],
    topology: Topology,
    folder: Path,
    shown: Sequence[Modalities] = (),
    files: Path | None = None,
) -> ArmResult:
    """Run one arm in one fold; ``late_fusion`` and ``personalised`` are made from other arms and are not run.

    ``only_`` and node types joined by ``+`` is the federated arm on a contract with these alone. With
    ``shown``, which only the federated arm knows, the held-out patients are predicted once with each set of
    modalities, and the rows' ``arm`` says with which.

    Parameters
    ----------
    folder
        For what training writes; a training that was interrupted there goes on.
    files
        Where the files lie that the study names, such as the bundle that it starts from.

    Raises
    ------
    StudyError
        ``MMF-511`` for an arm that is unknown or that the study does not allow.
    """
    if shown and arm != "federated":
        raise StudyError("MMF-511", f"the arm {arm!r} is not predicted with modalities hidden")
    if arm in SURVIVAL_BASELINES or arm == "logistic_clinical":
        if not applicable(arm, study.contract):
            raise StudyError("MMF-511", f"the study does not have what the arm {arm} needs")
        return _baseline(arm, fold, study, sites, topology)
    if arm == "federated":
        return _network(arm, fold, study, sites, folder, files, shown=shown, keep=True)
    if arm == RELEASED:
        return _released(study, sites, folder, files)
    if arm == "pooled":
        return _pooled(fold, study, sites, topology, folder, files)
    if arm == "local":
        return _local(fold, study, sites, folder, files)
    if arm == "attention_fusion":
        return _network(arm, fold, attention_only(study), sites, folder, files)
    if arm.startswith(SINGLE_PREFIX):
        kept = arm.removeprefix(SINGLE_PREFIX).split("+")
        if set(kept) <= set(study.contract.node_types):
            reduced = reduced_to(study, kept)
            parts = [only_modalities(site, reduced.contract) for site in sites]
            return _network(arm, fold, reduced, parts, folder, files, training_risk=True)
    raise StudyError("MMF-511", f"the arm {arm!r} is unknown")


def _released(study: Study, sites: Sequence[SiteData], folder: Path, files: Path | None) -> ArmResult:
    result = run_study(study, sites, folder, resume=_begun(folder), files=files)
    nothing = pd.DataFrame(columns=KEYS)
    return ArmResult(nothing, weights=dict(result.state), scaling=result.scaling)


def reduced_to(study: Study, kept: Sequence[str]) -> Study:
    """Reduce the contract to some modalities; stages that would train nothing are left out."""
    gone: dict[str, Any] = {}
    for name, sections in MODALITY_SECTIONS.items():
        if name not in kept:
            gone |= {section: {} if name == CLINICAL else None for section in sections}
    if CLINICAL not in kept:
        gone["relations"] = {"source": "none"}
    elif "gene" not in kept:
        gone["relations"] = study.contract.relations.model_dump(mode="json") | {"gene_clinical_pairs": []}
    alone = set(kept) == {CLINICAL}
    stages = [stage for old in study.training.stages if (stage := _without_additive(old) if alone else old)]
    return study.with_changes(contract=gone, training={"stages": [s.model_dump(mode="json") for s in stages]})


def _without_additive(stage: Stage) -> Stage | None:
    """The clinical modality has no additive block: train what is left of the stage, if anything."""
    trains = tuple(block for block in stage.trained_blocks if block != "additive")
    if not trains:
        return None
    level = "clinical" if stage.level == "additive" else stage.level
    return stage.model_copy(update={"level": level, "trains": trains})


def attention_only(study: Study) -> Study:
    """Tokens and cross-attention only: no clinical path, no additive path, no graph attention.

    The clinical stages still fit the baseline hazard; every other stage trains the full block, as many
    rounds as the study has.
    """
    stages = [
        stage
        if stage.level == "clinical"
        else stage.model_copy(update={"level": "full", "trains": ("full",)})
        for stage in study.training.stages
    ]
    if all(stage.level == "clinical" for stage in stages):
        stages[-1] = stages[-1].model_copy(update={"level": "full", "trains": ("clinical", "full")})
    model = {"clinical_path": False, "additive_path": False, "intra_attention": False, "fusion": "attention"}
    return study.with_changes(
        model=model, training={"stages": [stage.model_dump(mode="json") for stage in stages]}
    )


def alone(study: Study) -> Study:
    """The same study for one site: no other takes part, so there is no sum to mask and no noise to share."""
    return study.with_changes(
        aggregation={"minimum_sites": 1, "fraction": 1.0, "secure": False}, privacy={"noise": "site"}
    )


def _network(
    arm: str,
    fold: str,
    study: Study,
    sites: Sequence[SiteData],
    folder: Path,
    files: Path | None,
    *,
    training_risk: bool = False,
    shown: Sequence[Modalities] = (),
    keep: bool = False,
) -> ArmResult:
    result = run_study(study, sites, folder, resume=_begun(folder), files=files)
    tested = [site for site in sites if site.held_out.any()]
    rows = [held_out_rows(arm, fold, study, site, result) for site in tested if not shown]
    for one in shown:
        rows += [held_out_rows(joined(one), fold, study, showing(site, one), result) for site in tested]
    facts: dict[str, Any] = {"seconds": result.seconds}
    if training_risk and study.contract.survival is not None:
        facts["training_risk"] = _training_risk(study, sites, result)
    told = [dict(site) for site in result.sites]
    found = ArmResult(pd.concat(rows, ignore_index=True), _rounds(fold, result), told, facts)
    if keep:
        found.weights, found.scaling = dict(result.state), result.scaling
    return found


def _begun(folder: Path) -> bool:
    """Whether an interrupted run can be continued there."""
    return (folder / "study.json").is_file()


def held_out_rows(arm: str, fold: str, study: Study, site: SiteData, result: RunResult) -> pd.DataFrame:
    """Rows of a site's held-out patients, predicted with the final weights."""
    predictions = predict_site(study, site, result.state, result.scaling)
    names = [site.name] * len(site.test)
    return network_frame(study.contract, site.test, names, predictions, arm=arm, fold=fold)


def _training_risk(study: Study, sites: Sequence[SiteData], result: RunResult) -> dict[str, float]:
    assert study.contract.survival is not None
    scores = []
    for site in sites:
        index = np.flatnonzero(~site.held_out)
        if len(index):
            logits = predict_site(study, site, result.state, result.scaling, index).hazard_logits
            assert logits is not None
            scores.append(survival.risk_score(logits, study.contract.survival.bins).double())
    every = torch.cat(scores)
    return {"mean": float(every.mean()), "deviation": max(float(every.std(correction=0)), 1e-9)}


def _pooled(
    fold: str,
    study: Study,
    sites: Sequence[SiteData],
    topology: Topology,
    folder: Path,
    files: Path | None,
) -> ArmResult:
    everybody = pooled_site(study, sites, topology)
    found = _network("pooled", fold, alone(study), [everybody], folder, files)
    site_of = {i: site.name for site in sites for i in site.patients.patient_ids}
    found.rows["site"] = found.rows["patient_id"].map(site_of)
    return found


def _local(fold: str, study: Study, sites: Sequence[SiteData], folder: Path, files: Path | None) -> ArmResult:
    own = alone(study)
    rows: list[pd.DataFrame] = []
    left_out: list[str] = []
    seconds = 0.0
    for site in sites:
        if not site.held_out.any():
            continue
        if not trainable(study, site):
            left_out.append(site.name)
            continue
        place = folder / f"site-{len(rows)}"
        result = run_study(own, [site], place, resume=_begun(place), files=files)
        seconds += result.seconds
        rows.append(held_out_rows("local", fold, own, site, result))
    facts = {"left_out": left_out, "seconds": seconds}
    if not rows:
        raise StudyError("MMF-511", "no site has enough patients to train alone", "local")
    return ArmResult(pd.concat(rows, ignore_index=True), facts=facts)


def trainable(study: Study, site: SiteData) -> bool:
    """Whether a site can train alone: the study's floor of patients, and an event if survival is a task."""
    index = ~site.held_out
    if int(index.sum()) < study.aggregation.minimum_patients:
        return False
    outcomes = site.patients.outcomes
    events = (outcomes.event.numpy() == 1) & outcomes.survival_known.numpy() & index
    return study.contract.survival is None or bool(events.any())


def _rounds(fold: str, result: RunResult) -> list[dict[str, Any]]:
    return [{"fold": fold, **dict(row)} for row in result.rounds]


def _baseline(arm: str, fold: str, study: Study, sites: Sequence[SiteData], topology: Topology) -> ArmResult:
    training = join_patients([site.training for site in sites])
    test = join_patients([site.test for site in sites])
    names = [site.name for site in sites for _ in range(len(site.test))]
    frame = truth_frame(study.contract, test, names, arm=arm, fold=fold)
    if arm == "logistic_clinical":
        return ArmResult(_logistic_rows(frame, study.contract, training, test, topology))
    fitted = fit_baseline(arm, training, topology, study.study.seed)
    alive = fitted.survival(test, predicted_times(study.contract))
    rows = add_survival(frame, study.contract, fitted.risk(test), alive)
    return ArmResult(rows, facts={"penalty": fitted.penalty})


def _logistic_rows(
    frame: pd.DataFrame,
    contract: Contract,
    training: PatientTensors,
    test: PatientTensors,
    topology: Topology,
) -> pd.DataFrame:
    table = FeatureTable.fit(training, topology, (), 0)
    if contract.response is not None:
        truth = training.outcomes.response.double().numpy()
        truth = np.where(truth >= 0, truth, np.nan)
        chance = fit_logistic(training, table, truth, test, len(contract.response.classes))
        for column, name in enumerate(contract.response.classes):
            frame[f"response_{name}"] = chance[:, column]
    if contract.toxicity is not None:
        for column, name in enumerate(contract.toxicity.labels):
            known = training.outcomes.toxicity_known[:, column].numpy()
            truth = np.where(known, training.outcomes.toxicity[:, column].double().numpy(), np.nan)
            frame[f"toxicity_{name}"] = fit_logistic(training, table, truth, test, 2)[:, 1]
    return frame
