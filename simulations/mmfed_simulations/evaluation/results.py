"""Assemble ``results.json`` from scores, sites and timings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmfed_common.bundle import software_versions
from mmfed_common.durable import write_durably
from mmfed_common.errors import StudyError
from mmfed_common.metrics import Estimate
from mmfed_common.privacy import told_privacy
from mmfed_common.study import Study
from mmfed_simulations.evaluation.arm_names import description
from mmfed_simulations.evaluation.calibrating.calibration import calibration
from mmfed_simulations.evaluation.calibrating.recalibration import Fitted
from mmfed_simulations.evaluation.predictions import known_survival
from mmfed_simulations.evaluation.scores import Scoring

REFERENCES = ("cox_clinical", "ridge_all", "pooled", "local", "logistic_clinical")
"""Arms that every other arm is compared with, where they exist."""
PER_SITE_ARMS = ("federated", "pooled", "local", "cox_clinical")
LEAST_EVENTS = 2


def assemble_results(
    study: Study,
    scoring: Scoring,
    *,
    kind: str,
    held_out: str,
    sites: Sequence[Mapping[str, Any]],
    timing: Mapping[str, float],
    rounds: Sequence[Mapping[str, Any]],
    notes: Sequence[str] = (),
    started_from: Mapping[str, Any] | None = None,
    fitted: Mapping[str, Mapping[str, Fitted]] | None = None,
) -> dict[str, Any]:
    """Compute every figure of a run or comparison.

    Parameters
    ----------
    kind
        ``"run"`` or ``"compare"``.
    held_out
        One sentence: which patients the figures stand on.
    sites
        Rows of the site table.
    timing
        Name → seconds.
    rounds
        Per-round metrics.
    started_from
        What was taken over from a released model.
    fitted
        Arm → fold → temperatures and lower bound of the predictions.
    """
    tasks = study.contract.tasks
    pairs = [
        {"first": arm, "second": reference, "task": task, "metric": metric, **estimate.as_dict()}
        for reference in REFERENCES
        if reference in scoring.arms
        for arm in scoring.arms
        if arm != reference
        for task in tasks
        for metric, estimate in scoring.differences(arm, reference, task).items()
    ]
    arms = {
        arm: {
            task: {name: estimate.as_dict() for name, estimate in metrics.items()}
            for task, metrics in scoring.estimates(arm).items()
        }
        for arm in scoring.arms
    }
    results: dict[str, Any] = {
        "study": {
            "name": study.study.name,
            "version": study.study.version,
            "hash": study.hash,
            "seed": study.study.seed,
            "description": study.study.description,
            "tasks": list(tasks),
            "horizons_days": []
            if study.contract.survival is None
            else list(study.contract.survival.horizons),
        },
        "kind": kind,
        "held_out": held_out,
        "arms": arms,
        "arm_descriptions": {arm: description(arm) for arm in scoring.arms},
        "paired": pairs,
        "per_fold": {arm: scoring.per_fold(arm) for arm in scoring.arms},
        "site_c_index": site_c_index(study, scoring),
        "calibration": calibration(study, scoring, fitted or {}, arms, pairs),
        "temperature": {},
        "sites": [dict(site) for site in sites],
        "rounds": [dict(row) for row in rounds],
        "timing": dict(timing),
        "bootstrap": study.evaluation.bootstrap,
        "versions": software_versions(),
        "notes": list(notes),
    }
    if started_from is not None:
        results["started_from"] = dict(started_from)
    privacy = told_privacy(study, sites)
    if privacy is not None:
        results["privacy"] = privacy
    finite: dict[str, Any] = without_nan(results)
    return finite


def site_remark(site: Mapping[str, Any]) -> str:
    """What a reader must know about a site's part in a run: too small, or refused and why."""
    if site.get("below_floor"):
        return "too few training patients: it did not train, its patients are scored all the same"
    refusals = int(site.get("refusals") or 0)
    return f"{refusals} refused, last: {site['last_refusal']}" if refusals else ""


def site_c_index(study: Study, scoring: Scoring) -> dict[str, dict[str, dict[str, Any]]]:
    """Arm → site → C-index within the site's folds; ``too_few`` below the study's least cell."""
    if "survival" not in study.contract.tasks:
        return {}
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for arm in scoring.arms:
        if arm not in PER_SITE_ARMS:
            continue
        rows = scoring.predictions[scoring.predictions["arm"] == arm]
        rows = rows[known_survival(rows)]
        for site, group in rows.groupby("site"):
            events = int((group["event"] == 1.0).sum())
            enough = len(group) >= study.evaluation.minimum_cell and events >= LEAST_EVENTS
            figure = scoring.within_site(arm, str(site)) if enough else _too_few(len(group), events)
            table.setdefault(arm, {})[str(site)] = {**figure.as_dict(), "too_few": not enough}
    return table


def _too_few(n: int, events: int) -> Estimate:
    return Estimate(None, None, None, n, events)


def without_nan(content: Any) -> Any:
    """Replace NaN and infinity by None and NumPy numbers by Python's: JSON knows neither."""
    if isinstance(content, Mapping):
        return {str(key): without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    if isinstance(content, np.generic):
        content = content.item()
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def write_results(results: Mapping[str, Any], path: Path) -> None:
    """Write ``results.json``, whole or not at all.

    Raises
    ------
    StudyError
        ``MMF-508`` when it cannot be written.
    """
    try:
        text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
        write_durably(path, text.encode())
    except OSError as error:
        raise StudyError("MMF-508", str(error), str(path)) from None
