"""What a single run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from lifelines.utils import concordance_index
from tests.simulations.evaluation.toy_cohort import STUDY, toy_cohort, toy_topology

from mmfed_common.bundle import load_bundle
from mmfed_simulations.evaluation.run_results import finish_run
from mmfed_simulations.evaluation.site_data import sites_of
from mmfed_simulations.run import run_study


def test_a_run_is_finished_with_all_its_files(tmp_path: Path) -> None:
    study = STUDY.with_changes(evaluation={"rule": "hash", "fraction": 0.3})
    sites = sites_of(study, toy_cohort(), toy_topology())
    result = run_study(study, sites, tmp_path)
    results = finish_run(study, sites, result, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    rows = pd.read_parquet(tmp_path / "predictions.parquet")
    held_out = {p for site in sites for p in site.test.patient_ids}
    assert set(rows["patient_id"]) == held_out
    known = rows[rows["time_days"].notna()]
    figure = results["arms"]["federated"]["survival"]["c_index"]
    expected = concordance_index(known["time_days"], -known["risk_score"], known["event"])
    assert figure["estimate"] == pytest.approx(expected, abs=1e-6)
    assert figure["n"] == len(known)
    assert [row["round"] for row in results["rounds"]] == [1, 2, 3, 4]
    by_name = {site["site"]: site for site in results["sites"]}
    assert by_name["clinic"]["status"]
    assert by_name["hospital-1"]["bytes_up"] > 0
    assert sum(site["test"] for site in results["sites"]) == len(held_out)
    bundle = load_bundle(tmp_path / "model")
    assert bundle.study.hash == study.hash
    assert bundle.metrics == results["arms"]
    text = (tmp_path / "report.html").read_text()
    assert study.hash in text
    assert f"{len(held_out)} of 100 patients" in text


def test_a_run_that_holds_nobody_out_has_a_model_and_no_figures(tmp_path: Path) -> None:
    study = STUDY.with_changes(evaluation={"rule": "none"})
    sites = sites_of(study, toy_cohort(n=60), toy_topology())
    results = finish_run(study, sites, run_study(study, sites, tmp_path), tmp_path)
    assert results["arms"] == {}
    assert load_bundle(tmp_path / "model").state
    assert "nobody" in results["held_out"]
