"""Federated against local, pooled and the baselines: cross-validated, on identical patients."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mmfed_client.cohort import Cohort
from mmfed_common.bundle import save_bundle
from mmfed_common.errors import StudyError
from mmfed_common.metrics import Censoring
from mmfed_common.model_card import ModelFacts
from mmfed_common.privacy import told_epsilon
from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_server.record.events import EVENTS_FILE, EventLog
from mmfed_simulations.evaluation.arm_names import PERSONALISED, SINGLE_PREFIX, label
from mmfed_simulations.evaluation.arms import RELEASED, ArmResult, default_arms
from mmfed_simulations.evaluation.calibrating.nested import nested_predictions
from mmfed_simulations.evaluation.calibrating.recalibration import (
    Source,
    for_release,
    recalibrate,
    released_calibration,
)
from mmfed_simulations.evaluation.calibrating.temperature_effect import temperature_effect
from mmfed_simulations.evaluation.folds import (
    Fold,
    FoldPlan,
    FoldRule,
    plan_folds,
    training_follow_up,
    usual_rule,
)
from mmfed_simulations.evaluation.hospital.table import worth_notes
from mmfed_simulations.evaluation.hospital.worth import hospital_worth
from mmfed_simulations.evaluation.late_fusion import fused_arms
from mmfed_simulations.evaluation.predictions import write_predictions
from mmfed_simulations.evaluation.results import (
    assemble_results,
    site_remark,
    without_nan,
    write_results,
)
from mmfed_simulations.evaluation.scores import Scoring
from mmfed_simulations.evaluation.tasks_cache import (
    Failure,
    Inputs,
    Progress,
    Task,
    cohort_digest,
    run_tasks,
)
from mmfed_simulations.report import write_report

SLOWEST_FIRST = (RELEASED, "federated", "attention_fusion", "pooled", "local")
MOST_UNTRAINED_SITES_NAMED = 12


@dataclass(frozen=True)
class Comparison:
    """What a comparison leaves behind.

    Attributes
    ----------
    results
        Content of ``results.json``.
    predictions
        The table of predictions of all arms.
    report
        ``report.html``.
    """

    results: dict[str, Any]
    predictions: pd.DataFrame
    report: Path


def compare(
    study: Study,
    cohort: Cohort,
    topology: Topology,
    out: Path,
    *,
    arms: Sequence[str] | None = None,
    folds: FoldRule | None = None,
    calibration: Source = "cross-fitted",
    workers: int = 2,
    resume: bool = True,
    files: Path | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Train and score every arm in every fold; write results, predictions, events, report and a model.

    The model in ``out/model`` is the federated one, trained on all patients.

    Parameters
    ----------
    study
        The study; its held-out rule is replaced by the folds.
    cohort
        All sites' patients.
    topology
        The shared graph.
    out
        Folder for the results; finished (arm, fold) pairs are kept in ``out/cache``.
    arms
        Names of arms; by default every arm that the study allows.
    folds
        ``"cohort"``, ``"random"`` or ``"leave-site-out"``; by default the cohort's folds where it has them.
    calibration
        Whose predictions give a fold its lower bounds and temperatures; see :mod:`.recalibration`.
        ``"nested"`` trains the federated arm once more for every pair of folds.
    workers
        Processes, of one thread each.
    files
        Where the files lie that the study names, such as the bundle that it starts from.
    resume
        Whether results that are in ``out/cache`` are used.
    progress
        Called whenever a task ends.

    Raises
    ------
    StudyError
        ``MMF-507`` for folds that cannot be made, ``MMF-511`` for an arm that cannot, ``MMF-508`` when
        results cannot be written; whatever stops the federated arm.
    """
    begun = time.perf_counter()
    rule = folds or usual_rule(cohort)
    plan = plan_folds(study, cohort, rule)
    chosen = _choose_arms(study, arms, rule)
    cache = out / "cache"
    try:
        if not resume and cache.is_dir():
            shutil.rmtree(cache)
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError("MMF-508", str(error), str(out)) from None
    inputs = Inputs(plan.cohort, topology, cache, cohort_digest(plan.cohort), files)
    tasks = _tasks(chosen, plan)
    log = EventLog(out / EVENTS_FILE)
    log.write("comparison-started", study=study.hash, arms=list(chosen), folds=len(plan.folds))
    try:
        done, failures = run_tasks(inputs, tasks, workers, _logged(log, progress))
        _stop_if_federated_failed(failures)
        nested = None
        if calibration == "nested" and "federated" in chosen:
            nested = nested_predictions(plan, topology, cache, workers, _logged(log, progress))
        trained = time.perf_counter() - begun
        found, notes = _assemble(chosen, plan, done, failures)
        comparison = _score(study, plan, found, notes, out, {"training": trained}, nested)
        released = [result for task, result in done.items() if task.arm == RELEASED]
        if released:
            release(plan.everybody.study, released[0], comparison.results, topology, out)
        log.write("comparison-finished", seconds=time.perf_counter() - begun)
    finally:
        log.close()
    return comparison


def _choose_arms(study: Study, arms: Sequence[str] | None, rule: FoldRule) -> tuple[str, ...]:
    possible = default_arms(study.contract)
    if rule == "leave-site-out":
        possible = tuple(arm for arm in possible if arm not in ("local", PERSONALISED))
    unknown = [arm for arm in arms or () if arm not in possible]
    if unknown:
        raise StudyError(
            "MMF-511", f"unknown arm(s) {', '.join(unknown)}; possible are {', '.join(possible)}"
        )
    return possible if not arms else tuple(arm for arm in possible if arm in arms)


def _tasks(arms: Sequence[str], plan: FoldPlan) -> list[Task]:
    """Every arm that is trained, in every fold, those that take longest first."""
    needed = [arm for arm in arms if arm != "late_fusion"]
    released = [Task(RELEASED, plan.everybody)] if "federated" in arms else []
    if PERSONALISED in arms and "federated" not in needed:
        needed.append("federated")
    if "late_fusion" in arms:
        contract = plan.folds[0].study.contract
        needed += [a for n in contract.node_types if (a := SINGLE_PREFIX + n) not in needed]
    rank = {arm: SLOWEST_FIRST.index(arm) if arm in SLOWEST_FIRST else len(SLOWEST_FIRST) for arm in needed}
    ordered = sorted(needed, key=lambda arm: rank[arm])
    return released + [Task(arm, fold) for arm in ordered for fold in plan.folds]


def _logged(log: EventLog, progress: Progress | None) -> Progress:
    def tell(done: int, total: int, what: str) -> None:
        log.write("task-finished", done=done, total=total, what=what)
        if progress is not None:
            progress(done, total, what)

    return tell


def _stop_if_federated_failed(failures: Sequence[Failure]) -> None:
    for failure in failures:
        if failure.task.arm in ("federated", RELEASED):
            raise failure.error


def _assemble(
    arms: Sequence[str], plan: FoldPlan, done: Mapping[Task, ArmResult], failures: Sequence[Failure]
) -> tuple[dict[str, dict[Fold, ArmResult]], list[str]]:
    """Arm → fold → result, of the arms that are there in every fold; notes on those that are not."""
    notes = list(plan.notes)
    notes += [
        f"{label(f.task.arm)} is not shown: in fold {f.task.fold.name} {f.error.code}, {f.error.what}"
        for f in failures
    ]
    by_arm: dict[str, dict[Fold, ArmResult]] = {}
    for task, result in done.items():
        if task.arm != RELEASED:
            by_arm.setdefault(task.arm, {})[task.fold] = result
    whole = {arm: results for arm, results in by_arm.items() if len(results) == len(plan.folds)}
    singles = [arm for arm in by_arm if arm.startswith(SINGLE_PREFIX)]
    if "late_fusion" in arms and all(arm in whole for arm in singles):
        whole["late_fusion"] = {
            fold: ArmResult(fused_arms({arm: whole[arm][fold] for arm in singles}, plan.cohort.patients))
            for fold in plan.folds
        }
    if "local" in whole:
        notes += _local_note(whole["local"], plan)
    return {arm: whole[arm] for arm in arms if arm in whole}, notes


def _local_note(results: Mapping[Fold, ArmResult], plan: FoldPlan) -> list[str]:
    scored = sum(len(result.rows) for result in results.values())
    everyone = len(plan.cohort.patients)
    left_out = sorted({site for result in results.values() for site in result.facts["left_out"]})
    if not left_out:
        return []
    named = ", ".join(left_out[:MOST_UNTRAINED_SITES_NAMED])
    more = (
        f" and {len(left_out) - MOST_UNTRAINED_SITES_NAMED} more"
        if len(left_out) > MOST_UNTRAINED_SITES_NAMED
        else ""
    )
    return [
        f"Local models could score {scored} of {everyone} patients: in at least one fold {named}{more} had "
        "too few training patients, or no event among them. Differences from the local arm are on the "
        "patients that both score."
    ]


def _score(
    study: Study,
    plan: FoldPlan,
    found: Mapping[str, Mapping[Fold, ArmResult]],
    notes: Sequence[str],
    out: Path,
    timing: Mapping[str, float],
    nested: pd.DataFrame | None,
) -> Comparison:
    begun = time.perf_counter()
    raw = pd.concat(
        [result.rows for results in found.values() for result in results.values()], ignore_index=True
    )
    calibrated = recalibrate(study, raw, nested)
    predictions = calibrated.predictions
    training = {f.name: Censoring(*training_follow_up(plan.cohort, plan.held_out(f))) for f in plan.folds}
    rounds = [row for result in found.get("federated", {}).values() for row in result.rounds]
    seconds = {
        label(arm): sum(float(r.facts.get("wall_seconds", 0.0)) for r in results.values())
        for arm, results in found.items()
    }
    results = assemble_results(
        study,
        Scoring(study, predictions, training),
        kind="compare",
        held_out=plan.statement,
        sites=site_table(plan, found.get("federated", {})),
        timing=dict(timing),
        rounds=rounds,
        notes=notes,
        fitted=calibrated.fitted,
    )
    results["temperature"] = without_nan(temperature_effect(study, raw, training, nested))
    results["recalibration"] = without_nan(for_release(study, raw))
    own = [row for result in found.get(PERSONALISED, {}).values() for row in result.sites]
    results["worth"] = without_nan(hospital_worth(study, predictions, own))
    results["notes"] += worth_notes(results["worth"])
    results["timing"]["scoring"] = time.perf_counter() - begun
    results["arm_seconds"] = seconds
    write_predictions(predictions, out / "predictions.parquet")
    write_results(results, out / "results.json")
    report = write_report(results, predictions, rounds, out)
    return Comparison(results, predictions, report)


def release(
    study: Study, trained: ArmResult, results: Mapping[str, Any], topology: Topology, out: Path
) -> Path:
    """Write ``model/``: the federated model trained on everybody, with the figures of the folds."""
    facts = ModelFacts(
        metrics={"federated": results["arms"]["federated"]},
        sites=[
            {
                **site,
                "train": site["patients"],
                "test": 0,
                "epsilon": told_epsilon(study, site["patients"], study.training.rounds),
            }
            for site in results["sites"]
        ],
        held_out="The released weights were trained on all patients. The figures are those of "
        "cross-validation: " + results["held_out"],
        notes=results["notes"],
        calibration=released_calibration(results),
    )
    folder = out / "model"
    save_bundle(folder, study, trained.weights, trained.scaling, facts, topology)
    return folder


def site_table(plan: FoldPlan, federated: Mapping[Fold, ArmResult]) -> list[dict[str, Any]]:
    """One row a site: patients, trained on (mean of the folds), held out (all folds), totals of the folds.

    ε is that of one fold's model; the folds' models are not released together.
    """
    table = []
    study = plan.folds[0].study
    marks = [plan.held_out(fold) for fold in plan.folds]
    for name, part in plan.cohort.by_site().items():
        rows = [i for i, site in enumerate(plan.cohort.sites) if site == name]
        told = [s for result in federated.values() for s in result.sites if s["site"] == name]
        remarks = list(dict.fromkeys(remark for s in told if (remark := site_remark(s))))
        train = round(sum(int((~mark[rows]).sum()) for mark in marks) / len(marks))
        entry: dict[str, Any] = {
            "site": name,
            "patients": len(part.patients),
            "train": train,
            "test": sum(int(mark[rows].sum()) for mark in marks),
            "epsilon": told_epsilon(study, train, study.training.rounds),
            "status": "; ".join(remarks),
        }
        for key in ("seconds", "bytes_up", "bytes_down"):
            entry[key] = sum(float(s.get(key) or 0) for s in told) if told else None
        table.append(entry)
    return table
