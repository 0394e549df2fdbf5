"""What the federation is worth at each site: by hand, judged alike, and told to people."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines.utils import concordance_index
from rich.console import Console
from sklearn.metrics import roc_auc_score
from tests.simulations.evaluation import hospitals
from tests.simulations.report import example

from mmfed_common.errors import StudyError
from mmfed_simulations.evaluation.compare import Comparison, compare
from mmfed_simulations.evaluation.folds import plan_folds
from mmfed_simulations.evaluation.hospital.summary import worth_figures, worth_text
from mmfed_simulations.evaluation.hospital.table import judged_sentence, site_tables, worth_sentences
from mmfed_simulations.evaluation.hospital.worth import hospital_worth
from mmfed_simulations.evaluation.tasks_cache import Inputs, Task, cohort_digest, run_tasks

FRAME = example.example_predictions(n=400)
FRAME = pd.concat([FRAME, FRAME[FRAME["arm"] == "federated"].assign(arm="personalised")], ignore_index=True)
WORTH = hospital_worth(example.STUDY, FRAME)
SITES = {site["site"]: site for site in WORTH["sites"]}


def within(rows: pd.DataFrame) -> float:
    """C-index over pairs of one fold, by lifelines: pairs weigh alike."""
    right = pairs = 0.0
    for _, fold in rows.groupby("fold"):
        time, event = fold["time_days"].to_numpy(), fold["event"].to_numpy()
        count = sum(
            event[i] == 1 and time[i] < time[j] for i in range(len(fold)) for j in range(len(fold)) if i != j
        )
        if count:
            right += count * concordance_index(time, -fold["risk_score"], event)
            pairs += count
    return right / pairs


@pytest.mark.parametrize("site", ["north", "harbour"])
def test_figures_are_those_of_the_sites_own_patients(site: str) -> None:
    task = SITES[site]["tasks"]["survival"]
    by_hand = {}
    for arm in ("local", "federated", "personalised"):
        rows = FRAME[(FRAME["arm"] == arm) & (FRAME["site"] == site)]
        by_hand[arm] = within(rows)
        figure = task["figures"][arm]["c_index"]
        assert figure["estimate"] == pytest.approx(by_hand[arm], abs=1e-9)
        assert figure["low"] < figure["estimate"] < figure["high"]
        assert (figure["n"], figure["events"]) == (len(rows), int(rows["event"].sum()))
    difference = task["differences"]["federated-local"]["c_index"]
    assert difference["estimate"] == pytest.approx(by_hand["federated"] - by_hand["local"])
    assert task["differences"]["personalised-federated"]["c_index"] == {
        **difference,
        "estimate": 0.0,
        "low": 0.0,
        "high": 0.0,
    }


def test_classes_and_labels_are_compared_within_folds() -> None:
    rows = FRAME[(FRAME["arm"] == "federated") & (FRAME["site"] == "north")]
    figures = SITES["north"]["tasks"]["toxicity"]["figures"]["federated"]
    areas = []
    for label in ("neutropenia", "nausea"):
        right = pairs = 0.0
        for _, fold in rows.groupby("fold"):
            truth = fold[f"toxicity_true_{label}"].to_numpy()
            count = truth.sum() * (len(truth) - truth.sum())
            if count:
                right += count * roc_auc_score(truth, fold[f"toxicity_{label}"])
                pairs += count
        areas.append(right / pairs)
    assert figures["auroc_macro"]["estimate"] == pytest.approx(np.mean(areas))
    known = rows[rows["response_true"] != ""]
    chance = [row[f"response_{row['response_true']}"] for _, row in known.iterrows()]
    told = SITES["north"]["tasks"]["response"]["figures"]["federated"]
    assert told["log_loss"]["estimate"] == pytest.approx(-np.mean(np.log(chance)))
    assert told["log_loss"]["n"] == len(known)


def test_a_site_is_judged_only_with_enough_patients_and_events() -> None:
    for site in WORTH["sites"]:
        task = site["tasks"]["survival"]
        rows = FRAME[(FRAME["arm"] == "federated") & (FRAME["site"] == site["site"])]
        has_local = ((FRAME["arm"] == "local") & (FRAME["site"] == site["site"])).any()
        assert (task["patients"], task["events"]) == (len(rows), int(rows["event"].sum()))
        assert task["judged"] == (len(rows) >= 20 and rows["event"].sum() >= 10), site["site"]
        assert ("local" in task["figures"]) == (has_local and len(rows) >= 10)
    assert [name for name, site in SITES.items() if not site["tasks"]["survival"]["judged"]] == ["hill"]


def test_no_figure_stands_on_fewer_patients_than_the_least_cell() -> None:
    study = example.STUDY.with_changes(evaluation={"minimum_cell": 40})
    for site in hospital_worth(study, FRAME)["sites"]:
        for task in site["tasks"].values():
            assert bool(task["figures"]) == bool(task["differences"]) == (task["patients"] >= 40)
            assert task["patients"] >= 40 or not task["judged"]


def test_the_share_counts_the_judged_sites() -> None:
    found = WORTH["summary"]["survival"]["federated-local"]["c_index"]
    judged = [s["tasks"]["survival"] for s in WORTH["sites"] if s["tasks"]["survival"]["judged"]]
    differences = [task["differences"]["federated-local"]["c_index"] for task in judged]
    assert found["judged"] == len(judged) == 5
    assert found["better"] == sum(d["estimate"] > 0 for d in differences)
    assert found["clearly_better"] == sum(d["low"] > 0 for d in differences)
    assert found["share"] == found["better"] / 5
    assert found["low"] < found["share"] <= found["high"]
    assert found["mean"]["estimate"] == pytest.approx(np.mean([d["estimate"] for d in differences]))
    lower = WORTH["summary"]["survival"]["federated-local"]["log_loss"]
    losses = [task["differences"]["federated-local"]["log_loss"]["estimate"] for task in judged]
    assert lower["better"] == sum(loss < 0 for loss in losses)
    same = WORTH["summary"]["survival"]["personalised-federated"]["c_index"]
    assert (same["better"], same["worse"]) == (0, 0)


def test_arms_of_a_site_are_scored_on_the_same_patients() -> None:
    gone = FRAME[(FRAME["arm"] == "local") & (FRAME["site"] == "north") & (FRAME["fold"] == "0")]
    less = hospital_worth(example.STUDY, FRAME.drop(gone.index))
    task = next(s for s in less["sites"] if s["site"] == "north")["tasks"]["survival"]
    north = SITES["north"]["tasks"]["survival"]
    assert task["patients"] == north["patients"] - len(gone)
    assert {f["c_index"]["n"] for f in task["figures"].values()} == {task["patients"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hospitals")


COHORT = hospitals.hospitals((80, 60, 60, 14), 1, own=(0.8, 0.8, -0.8, 0.8))
ARMS = ["federated", "local", "personalised"]


@pytest.fixture(scope="module")
def comparison(folder: Path) -> Comparison:
    return compare(hospitals.SURVIVAL, COHORT, hospitals.topology(), folder, arms=ARMS, workers=1)


def test_the_odd_hospital_gains_by_its_own_head(comparison: Comparison) -> None:
    """At the third hospital the marker works the other way round; the others are alike."""
    worth = comparison.results["worth"]
    sites = {site["site"]: site for site in worth["sites"]}
    odd = sites["hospital-2"]
    assert odd["personal"]["moved"] == odd["personal"]["folds"] == 3
    assert odd["tasks"]["survival"]["differences"]["personalised-federated"]["c_index"]["estimate"] > 0.03
    assert odd["tasks"]["survival"]["differences"]["personalised-federated"]["log_loss"]["estimate"] < 0
    assert sites["hospital-3"]["personal"]["moved"] == 0  # too small to try
    rows = comparison.predictions.set_index(["arm", "patient_id"])["risk_score"]
    small = [p for p, s in zip(COHORT.patients.patient_ids, COHORT.sites, strict=True) if s == "hospital-3"]
    assert all(rows["personalised", p] == rows["federated", p] for p in small)


def test_it_is_told_in_the_terminal_and_on_the_page(comparison: Comparison) -> None:
    results = comparison.results
    out = StringIO()
    console = Console(file=out, width=170)
    for table in site_tables(results):
        console.print(table)
    text = out.getvalue()
    assert "hospital-0 *" in text
    assert "too few" not in text
    page = comparison.report.read_text(encoding="utf-8")
    for sentence in [*worth_sentences(results["worth"]), judged_sentence(results["worth"])]:
        assert sentence.replace("'", "&#39;") in page
    figure = results["worth"]["sites"][0]["tasks"]["survival"]["figures"]["local"]["c_index"]
    assert f"{figure['estimate']:.3f}" in page


def test_several_cohorts_make_one_page(comparison: Comparison) -> None:
    worth = comparison.results["worth"]
    figures = json.loads(json.dumps(worth_figures({"A": comparison.results, "B": comparison.results})))
    once = worth["summary"]["survival"]["federated-local"]["c_index"]
    twice = figures["together"]["survival"]["federated-local"]["c_index"]
    assert twice["judged"] == 2 * once["judged"] > 0
    assert twice["share"] == once["share"]
    assert twice["high"] - twice["low"] < once["high"] - once["low"]
    text = worth_text(figures)
    assert "### B, overall survival" in text
    assert "- B: no site (" in text
    assert f"| {twice['judged']} | {twice['better']} |" in text
    assert ("met" if twice["share"] >= 0.8 else "missed") + "." in text


def test_own_heads_need_the_federated_model_and_train_it_where_it_is_not_asked_for(tmp_path: Path) -> None:
    alone = compare(
        hospitals.SURVIVAL, COHORT, hospitals.topology(), tmp_path, arms=["personalised"], workers=1
    )
    assert list(alone.results["arms"]) == ["personalised"]
    plan = plan_folds(hospitals.SURVIVAL, COHORT, "cohort")
    inputs = Inputs(COHORT, hospitals.topology(), tmp_path / "other", cohort_digest(COHORT))
    (tmp_path / "other").mkdir()
    done, failures = run_tasks(inputs, [Task("personalised", plan.folds[0])], 1, None)
    assert done == {}
    assert [failure.error.code for failure in failures] == ["MMF-511"]


def test_worker_processes_and_a_lost_result_give_the_same(comparison: Comparison, folder: Path) -> None:
    (lost,) = (folder / "cache").glob("*-personalised-1.parquet")
    lost.unlink()
    again = compare(hospitals.SURVIVAL, COHORT, hospitals.topology(), folder, arms=ARMS, workers=2)
    pd.testing.assert_frame_equal(again.predictions, comparison.predictions)
    assert again.results["worth"] == comparison.results["worth"]


def test_a_site_that_is_left_out_has_no_own_head(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="personalised"):
        compare(
            hospitals.SURVIVAL,
            COHORT,
            hospitals.topology(),
            tmp_path,
            arms=["personalised"],
            folds="leave-site-out",
        )


def plain(found: Any) -> Any:
    return json.loads(json.dumps(found))


def test_it_is_plain_and_the_same_each_time() -> None:
    again = hospital_worth(example.STUDY, FRAME.sample(frac=1.0, random_state=2))
    assert plain(again)["sites"] == plain(WORTH)["sites"]
