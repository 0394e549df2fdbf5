"""What a single federated run leaves behind: results, predictions, report and model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mmfed_client.prediction import predict_site
from mmfed_client.site import SiteData
from mmfed_common.bundle import save_bundle
from mmfed_common.metrics import Censoring
from mmfed_common.model_card import ModelFacts
from mmfed_common.privacy import told_epsilon
from mmfed_common.study import Study
from mmfed_simulations.evaluation.predictions import KEYS, network_frame, write_predictions
from mmfed_simulations.evaluation.results import assemble_results, site_remark, write_results
from mmfed_simulations.evaluation.scores import Scoring
from mmfed_simulations.evaluation.site_data import join_patients
from mmfed_simulations.report import write_report
from mmfed_simulations.run import RunResult

HELD_OUT = "held out"


def finish_run(study: Study, sites: Sequence[SiteData], result: RunResult, out: Path) -> dict[str, Any]:
    """Predict every site's held-out patients, score them, write everything.

    Files: ``results.json``, ``predictions.parquet``, ``report.html``, ``model/``.

    Returns
    -------
    dict
        Content of ``results.json``.

    Raises
    ------
    StudyError
        ``MMF-508`` when a file cannot be written.
    """
    begun = time.perf_counter()
    frames = [_rows(study, site, result) for site in sites if site.held_out.any()]
    predictions = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=KEYS)
    results = assemble_results(
        study,
        Scoring(study, predictions, {HELD_OUT: _training(sites)}),
        kind="run",
        held_out=held_out_sentence(study, sites),
        sites=[
            {**site, "epsilon": _epsilon(study, site), "status": site_remark(site)} for site in result.sites
        ],
        timing={"federation": result.seconds, "evaluation": time.perf_counter() - begun},
        rounds=result.rounds,
        started_from=result.started_from,
    )
    write_predictions(predictions, out / "predictions.parquet")
    write_results(results, out / "results.json")
    write_report(results, predictions, result.rounds, out)
    facts = ModelFacts(results["arms"], results["sites"], results["held_out"], results["notes"])
    save_bundle(out / "model", study, result.state, result.scaling, facts, sites[0].topology)
    return results


def _rows(study: Study, site: SiteData, result: RunResult) -> pd.DataFrame:
    predictions = predict_site(study, site, result.state, result.scaling)
    names = [site.name] * len(site.test)
    return network_frame(study.contract, site.test, names, predictions, arm="federated", fold=HELD_OUT)


def _epsilon(study: Study, site: Mapping[str, Any]) -> float | None:
    rounds = 0 if site.get("below_floor") else study.training.rounds
    return told_epsilon(study, int(site["train"]), rounds)


def _training(sites: Sequence[SiteData]) -> Censoring:
    outcomes = join_patients([site.training for site in sites]).outcomes
    known = outcomes.survival_known.numpy().astype(bool)
    return Censoring(outcomes.time_days.double().numpy()[known], outcomes.event.numpy()[known] == 1)


def held_out_sentence(study: Study, sites: Sequence[SiteData]) -> str:
    """One sentence: which patients the figures stand on."""
    e = study.evaluation
    total = sum(len(site.patients) for site in sites)
    held_out = sum(int(site.held_out.sum()) for site in sites)
    how = {
        "hash": f"about {e.fraction:.0%} of the patients of every site, chosen by a hash of the patient id",
        "fold": f"fold {e.fold} of {e.folds}",
        "site": f"all patients of {', '.join(e.sites)}",
        "none": "nobody",
    }[e.rule]
    return f"Held out before the first round: {how}; {held_out} of {total} patients."
