"""Scores of a table of predictions: within folds, on the same patients, the same at every run."""

from __future__ import annotations

import numpy as np
import pytest
from lifelines.utils import concordance_index
from tests.simulations.report import example

from mmfed_simulations.evaluation.results import assemble_results, without_nan
from mmfed_simulations.evaluation.scores import Scoring

FRAME = example.example_predictions(n=160)
SCORING = Scoring(example.STUDY, FRAME, example.training_parts(FRAME))


def test_c_index_is_the_mean_of_the_folds() -> None:
    rows = FRAME[FRAME["arm"] == "federated"]
    by_hand = [
        concordance_index(fold["time_days"], -fold["risk_score"], fold["event"])
        for _, fold in rows.groupby("fold")
    ]
    figure = SCORING.estimates("federated")["survival"]["c_index"]
    assert figure.estimate == pytest.approx(np.mean(by_hand), abs=1e-6)
    assert figure.n == 160
    assert figure.events == int(rows["event"].sum())
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < figure.estimate < figure.high
    per_fold = SCORING.per_fold("federated")["survival"]["c_index"]
    assert list(per_fold.values()) == pytest.approx(by_hand, abs=1e-6)


def test_risk_scores_of_different_folds_are_never_compared() -> None:
    shifted = FRAME.copy()
    shifted["risk_score"] += 1000.0 * shifted["fold"].astype(int)
    again = Scoring(example.STUDY, shifted, example.training_parts(FRAME))
    assert (
        again.estimates("federated")["survival"]["c_index"]
        == SCORING.estimates("federated")["survival"]["c_index"]
    )


def test_order_of_rows_does_not_matter() -> None:
    mixed = FRAME.sample(frac=1.0, random_state=3)
    again = Scoring(example.STUDY, mixed, example.training_parts(FRAME))
    assert again.estimates("local") == SCORING.estimates("local")


def test_difference_is_paired_on_the_patients_of_both() -> None:
    """The local arm lacks one small site; its partner is scored without that site too."""
    local = FRAME[FRAME["arm"] == "local"]
    both = FRAME[(FRAME["arm"] == "federated") & FRAME["patient_id"].isin(local["patient_id"])]
    assert len(local) < 160

    def mean(rows) -> float:  # type: ignore[no-untyped-def]
        parts = [
            concordance_index(f["time_days"], -f["risk_score"], f["event"]) for _, f in rows.groupby("fold")
        ]
        return float(np.mean(parts))

    difference = SCORING.differences("federated", "local", "survival")["c_index"]
    assert difference.n == len(local)
    assert difference.estimate == pytest.approx(mean(both) - mean(local), abs=1e-6)
    mirrored = SCORING.differences("local", "federated", "survival")["c_index"]
    assert mirrored.low == pytest.approx(-difference.high)


def test_better_arms_are_better() -> None:
    better = SCORING.differences("federated", "only_gene", "survival")
    assert better["c_index"].low > 0
    assert better["ibs"].high < 0


def test_an_arm_without_a_task_has_no_figures_for_it() -> None:
    assert "response" not in SCORING.estimates("cox_clinical")
    assert SCORING.differences("federated", "cox_clinical", "response") == {}


def test_c_index_within_site_uses_pairs_of_one_site_only() -> None:
    """Every site on its own scale: pooled concordance suffers, within-site concordance does not."""
    offset = {name: 50.0 * k for k, name in enumerate(sorted(FRAME["site"].unique()))}
    shifted = FRAME.assign(risk_score=FRAME["risk_score"] + FRAME["site"].map(offset))
    again = Scoring(example.STUDY, shifted, example.training_parts(FRAME))
    before, after = SCORING.estimates("local")["survival"], again.estimates("local")["survival"]
    assert after["c_index_within_site"] == before["c_index_within_site"]
    assert after["c_index"].estimate < before["c_index"].estimate - 0.02
    rows = FRAME[FRAME["arm"] == "local"]
    ordered = comparable = 0.0
    for _, group in rows.groupby(["fold", "site"]):
        time, event, risk = (group[c].to_numpy() for c in ("time_days", "event", "risk_score"))
        pairs = int(((time[None, :] > time[:, None]) & (event[:, None] == 1)).sum())
        if pairs:
            ordered += pairs * concordance_index(time, -risk, event)
            comparable += pairs
    assert before["c_index_within_site"].estimate == pytest.approx(ordered / comparable, abs=1e-6)


def test_results_hold_what_the_design_names() -> None:
    results = example.example_results(FRAME)
    assert set(results["study"]) >= {"name", "hash", "seed"}
    assert set(results["arms"]["federated"]["survival"]["c_index"]) == {
        "estimate",
        "low",
        "high",
        "n",
        "events",
    }
    assert {"c_index", "uno_c", "ibs"} <= set(results["arms"]["federated"]["survival"])
    assert {"accuracy", "balanced_accuracy", "auroc"} == set(results["arms"]["federated"]["response"])
    assert set(results["arms"]["federated"]["toxicity"]) == {"auroc_macro"}
    assert {"sites", "timing", "paired", "per_fold", "versions"} <= set(results)


def test_small_sites_are_not_scored() -> None:
    table = example.example_results(FRAME)["site_c_index"]["federated"]
    counts = FRAME[FRAME["arm"] == "federated"]["site"].value_counts()
    assert counts["hill"] < 10
    assert table["hill"]["too_few"] is True
    assert table["hill"]["estimate"] is None
    assert table["north"]["too_few"] is False


def test_same_input_same_results() -> None:
    assert example.example_results(FRAME) == example.example_results(FRAME.copy())


def test_a_run_without_held_out_patients_has_empty_results() -> None:
    empty = FRAME.iloc[:0]
    results = assemble_results(
        example.STUDY,
        Scoring(example.STUDY, empty, {}),
        kind="run",
        held_out="Nobody was held out.",
        sites=[],
        timing={},
        rounds=[],
    )
    assert results["arms"] == {}


def test_json_never_holds_nan() -> None:
    content = without_nan({"a": [float("nan"), np.float32(1.5), np.int64(3)], 4: (float("inf"), "x")})
    assert content == {"a": [None, 1.5, 3], "4": [None, "x"]}
