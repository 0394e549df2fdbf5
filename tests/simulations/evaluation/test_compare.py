"""A whole comparison on a small cohort: identical patients, nothing leaks, nothing is computed twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.simulations.evaluation.toy_cohort import STUDY, toy_cohort, toy_topology

from mmfed_common.bundle import load_bundle
from mmfed_common.errors import StudyError
from mmfed_common.model import build_model
from mmfed_simulations.evaluation.arms import run_arm
from mmfed_simulations.evaluation.compare import Comparison, compare
from mmfed_simulations.evaluation.folds import plan_folds
from mmfed_simulations.evaluation.site_data import sites_of
from mmfed_simulations.evaluation.table import results_text
from mmfed_simulations.evaluation.tasks_cache import Inputs, Task, cohort_digest, run_tasks

COHORT = toy_cohort()
TOPOLOGY = toy_topology()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture(scope="module")
def comparison(folder: Path) -> Comparison:
    return compare(STUDY, COHORT, TOPOLOGY, folder, workers=1)


def test_every_arm_is_there(comparison: Comparison) -> None:
    assert list(comparison.results["arms"]) == [
        "federated",
        "pooled",
        "local",
        "personalised",
        "cox_clinical",
        "cox_expression",
        "ridge_all",
        "logistic_clinical",
        "only_clinical_feature",
        "only_gene",
        "late_fusion",
        "attention_fusion",
    ]


def test_every_arm_scores_every_patient_once_in_the_fold_that_held_it_out(comparison: Comparison) -> None:
    assert COHORT.folds is not None
    fold_of = dict(zip(COHORT.patients.patient_ids, map(str, COHORT.folds), strict=True))
    site_of = dict(zip(COHORT.patients.patient_ids, COHORT.sites, strict=True))
    for arm, rows in comparison.predictions.groupby("arm"):
        wanted = {p for p in fold_of if arm != "local" or site_of[p] != "clinic"}
        assert sorted(rows["patient_id"]) == sorted(wanted), arm
        assert dict(zip(rows["patient_id"], rows["fold"], strict=True)) == {p: fold_of[p] for p in wanted}
        assert dict(zip(rows["patient_id"], rows["site"], strict=True)) == {p: site_of[p] for p in wanted}


def test_truths_are_those_of_the_cohort(comparison: Comparison) -> None:
    outcomes = COHORT.patients.outcomes
    rows = comparison.predictions[comparison.predictions["arm"] == "pooled"].set_index("patient_id")
    for k, patient in enumerate(COHORT.patients.patient_ids):
        row = rows.loc[patient]
        if bool(outcomes.survival_known[k]):
            assert row["time_days"] == pytest.approx(float(outcomes.time_days[k]))
            assert row["event"] == float(outcomes.event[k])
        else:
            assert pd.isna(row["time_days"])
        assert row["response_true"] == ["none", "complete", ""][int(outcomes.response[k])]
        assert pd.isna(row["toxicity_true_nausea"]) != bool(outcomes.toxicity_known[k, 0])


def test_what_is_not_comparable_is_said(comparison: Comparison) -> None:
    assert any("clinic" in note and "97 of 100" in note for note in comparison.results["notes"])
    assert comparison.results["arms"]["local"]["survival"]["c_index"]["n"] < 97
    assert "clinic" not in comparison.results["site_c_index"]["local"]


def test_files_are_written(comparison: Comparison, folder: Path) -> None:
    assert json.loads((folder / "results.json").read_text()) == comparison.results
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "predictions.parquet"), comparison.predictions)
    assert comparison.report == folder / "report.html"
    assert comparison.report.stat().st_size > 50_000
    events = [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()]
    assert events[0] == "comparison-started"
    assert events[-1] == "comparison-finished"
    assert "Federated" in results_text(comparison.results)


def test_the_released_model_is_trained_on_everybody_and_loads(comparison: Comparison, folder: Path) -> None:
    bundle = load_bundle(folder / "model")
    assert bundle.study.evaluation.rule == "none"
    assert bundle.metrics["federated"] == comparison.results["arms"]["federated"]
    model = build_model(bundle.study, TOPOLOGY)
    model.load_state_dict(bundle.state)
    assert bundle.scaling is not None
    with torch.no_grad():
        logits = model.eval()(COHORT.patients, bundle.scaling).hazard_logits
    assert logits is not None
    assert bool(torch.isfinite(logits).all())


def test_a_second_call_computes_nothing_and_a_lost_result_comes_back_the_same(
    comparison: Comparison, folder: Path
) -> None:
    told: list[tuple[int, int, str]] = []
    lost = sorted((folder / "cache").glob("*-federated-0.parquet"))
    assert len(lost) == 1
    lost[0].unlink()
    again = compare(STUDY, COHORT, TOPOLOGY, folder, workers=1, progress=lambda *t: told.append(t))
    assert told[0][0] == told[0][1] - 1
    assert told[-1] == (told[0][1], told[0][1], "federated, fold 0")
    pd.testing.assert_frame_equal(again.predictions, comparison.predictions)
    assert again.results["arms"] == comparison.results["arms"]
    assert again.results["paired"] == comparison.results["paired"]


def test_worker_processes_give_the_same(comparison: Comparison, tmp_path: Path) -> None:
    arms = ["federated", "cox_clinical"]
    parallel = compare(STUDY, COHORT, TOPOLOGY, tmp_path, arms=arms, workers=2)
    same = comparison.predictions[comparison.predictions["arm"].isin(arms)].reset_index(drop=True)
    pd.testing.assert_frame_equal(parallel.predictions, same[parallel.predictions.columns])


@pytest.mark.parametrize(
    "arm", ["federated", "pooled", "local", "only_gene", "ridge_all", "logistic_clinical"]
)
def test_outcomes_of_held_out_patients_change_no_prediction(arm: str, tmp_path: Path) -> None:
    """Promise 10, from the outside: turn the held-out patients' outcomes upside down."""
    plan = plan_folds(STUDY, COHORT, "cohort")
    fold = plan.folds[0]
    held_out = torch.from_numpy(plan.held_out(fold))
    outcomes = COHORT.patients.outcomes
    changed = replace(
        outcomes,
        time_days=torch.where(held_out, 3000 - outcomes.time_days, outcomes.time_days),
        event=torch.where(held_out, 1 - outcomes.event, outcomes.event),
        response=torch.where(held_out & (outcomes.response >= 0), 1 - outcomes.response, outcomes.response),
        toxicity=torch.where(held_out[:, None], 1 - outcomes.toxicity, outcomes.toxicity),
    )
    other = replace(COHORT, patients=replace(COHORT.patients, outcomes=changed))
    found = [
        run_arm(
            arm, "0", fold.study, sites_of(fold.study, cohort, TOPOLOGY), TOPOLOGY, tmp_path / str(k)
        ).rows
        for k, cohort in enumerate((COHORT, other))
    ]
    predicted = [c for c in found[0] if c.startswith(("risk_", "survival_", "response_", "toxicity_"))]
    predicted = [c for c in predicted if "_true" not in c]
    assert predicted
    pd.testing.assert_frame_equal(found[0][predicted], found[1][predicted])
    if "time_days" in found[0]:
        assert not found[0]["time_days"].equals(found[1]["time_days"])


def test_other_data_are_never_taken_for_the_same() -> None:
    digest = cohort_digest(COHORT)
    assert digest == cohort_digest(toy_cohort())
    values = COHORT.patients.nodes["gene"].values.clone()
    values[5, 3, 0] += 1e-3
    gene = replace(COHORT.patients.nodes["gene"], values=values)
    touched = replace(COHORT.patients, nodes={**COHORT.patients.nodes, "gene": gene})
    assert cohort_digest(replace(COHORT, patients=touched)) != digest
    assert cohort_digest(replace(COHORT, sites=("x", *COHORT.sites[1:]))) != digest


def test_a_failing_arm_does_not_stop_the_others(tmp_path: Path) -> None:
    plan = plan_folds(STUDY, COHORT, "cohort")
    inputs = Inputs(COHORT, TOPOLOGY, tmp_path, "digest")
    tasks = [Task("no-such-arm", plan.folds[0]), Task("cox_clinical", plan.folds[0])]
    done, failures = run_tasks(inputs, tasks, 1, None)
    assert [task.arm for task in done] == ["cox_clinical"]
    assert [failure.error.code for failure in failures] == ["MMF-511"]


def test_an_unknown_arm_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="nonsense") as caught:
        compare(STUDY, COHORT, TOPOLOGY, tmp_path, arms=["federated", "nonsense"])
    assert caught.value.code == "MMF-511"


def test_leave_site_out(tmp_path: Path) -> None:
    found = compare(
        STUDY,
        COHORT,
        TOPOLOGY,
        tmp_path,
        arms=["federated", "cox_clinical"],
        folds="leave-site-out",
        workers=1,
    )
    rows = found.predictions
    assert set(rows["fold"]) == {f"hospital-{k}" for k in range(4)}
    assert (rows["fold"] == rows["site"]).all()
    assert any("clinic" in note for note in found.results["notes"])
    with pytest.raises(StudyError, match="local"):
        compare(STUDY, COHORT, TOPOLOGY, tmp_path, arms=["local"], folds="leave-site-out")
