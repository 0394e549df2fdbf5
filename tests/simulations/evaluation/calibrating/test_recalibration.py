"""Temperatures and lower bounds of a table of predictions: fitted elsewhere, applied here, then scored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.simulations.report import example

from mmfed_common.metrics import Censoring
from mmfed_common.study import Study
from mmfed_simulations.evaluation.calibrating.calibration import calibration
from mmfed_simulations.evaluation.calibrating.figures import (
    calibration_figures,
    calibration_summary,
    calibration_text,
)
from mmfed_simulations.evaluation.calibrating.recalibration import (
    TEST_FOLD,
    for_release,
    recalibrate,
    released_calibration,
)
from mmfed_simulations.evaluation.calibrating.temperature_effect import temperature_effect
from mmfed_simulations.evaluation.predictions import LOWER_BOUND, predicted_times, survival_column
from mmfed_simulations.evaluation.results import assemble_results
from mmfed_simulations.evaluation.scores import Scoring

STUDY = example.STUDY.with_changes(evaluation={"bootstrap": 60})
SCALE = 1500.0


def made_up(n: int = 600, temperature: float = 1.0, seed: int = 0, folds: int = 5) -> pd.DataFrame:
    """One federated arm whose curves are right but for a temperature; some 40 % of patients are censored."""
    random = np.random.default_rng(seed)
    risk = random.normal(0, 0.9, n)
    death, limit = random.exponential(SCALE * np.exp(-risk)), random.uniform(300, 4000, n)
    frame = pd.DataFrame({"arm": "federated", "fold": (np.arange(n) % folds).astype(str), "site": "north"})
    frame["patient_id"] = [f"p{k:04d}" for k in range(n)]
    frame["modalities"] = np.where(np.arange(n) % 2 == 0, "clinical_feature", "clinical_feature+gene")
    frame["time_days"], frame["event"] = np.minimum(death, limit), (death <= limit).astype(float)
    frame["risk_score"] = risk
    for days in predicted_times(STUDY.contract):
        frame[survival_column(days)] = np.exp(-(days / SCALE) * np.exp(temperature * risk))
    return frame


def follow_up(frame: pd.DataFrame) -> dict[str, Censoring]:
    """Each fold's training part: everybody else."""
    rest = {str(fold): frame[frame["fold"] != fold] for fold in frame["fold"].unique()}
    return {f: Censoring(r["time_days"].to_numpy(), r["event"].to_numpy() == 1) for f, r in rest.items()}


def results_of(study: Study, frame: pd.DataFrame, nested: pd.DataFrame | None = None) -> dict[str, object]:
    """``results.json`` of a made-up table."""
    done = recalibrate(study, frame, nested)
    results = assemble_results(
        study,
        Scoring(study, done.predictions, follow_up(frame)),
        kind="compare",
        held_out="Made up.",
        sites=[],
        timing={},
        rounds=[],
        fitted=done.fitted,
    )
    results["temperature"] = temperature_effect(study, frame, follow_up(frame), nested)
    results["recalibration"] = for_release(study, frame)
    return results


@pytest.fixture(scope="module")
def right() -> dict[str, object]:
    return results_of(STUDY, made_up())


def test_right_curves_are_found_calibrated_and_covered(right: dict) -> None:  # type: ignore[type-arg]
    found = right["calibration"]["federated"]
    assert found["d_calibration"]["rejected"] == 0
    assert found["residuals"]["rejected"] <= 1
    assert found["slope"]["low"] < 1.0 < found["slope"]["high"]
    assert found["deaths"]["low"] < 1.0 < found["deaths"]["high"]
    for row in found["horizons"]:
        assert row["observed_over_expected"] == pytest.approx(1.0, abs=0.1)
        assert row["low"] < row["observed"] < row["high"]
    bound = found["lower_bound"]
    assert bound["source"] == "cross-fitted"
    assert bound["coverage"]["low"] < 0.9 < bound["coverage"]["high"]
    assert bound["coverage_least"] <= bound["coverage"]["estimate"] <= bound["coverage_greatest"] + 1e-9
    assert set(found["folds"]) == set(bound["folds"]) == {"0", "1", "2", "3", "4"}
    assert sum(fold["n"] for fold in found["folds"].values()) == 600


def test_wrong_curves_are_rejected_but_covered() -> None:
    wrong = made_up()
    for days in predicted_times(STUDY.contract):
        wrong[survival_column(days)] = wrong[survival_column(days)] ** 2.0
    found = results_of(STUDY, wrong)["calibration"]["federated"]  # type: ignore[index]
    assert found["d_calibration"]["rejected"] == 5
    assert found["residuals"]["rejected"] == 5
    assert found["deaths"]["ratio"] == pytest.approx(0.5, abs=0.06)
    assert found["lower_bound"]["coverage"]["estimate"] == pytest.approx(0.9, abs=0.02)


def test_nothing_of_a_fold_calibrates_it() -> None:
    """Turn the outcomes of fold 2 upside down: its bounds and temperatures stay, those of others do not."""
    frame = made_up()
    study = STUDY.with_changes(evaluation={"temperature": "scenario"})
    touched = frame.copy()
    mine = touched["fold"] == "2"
    touched.loc[mine, "time_days"] = 4000 - touched.loc[mine, "time_days"]
    touched.loc[mine, "event"] = 1 - touched.loc[mine, "event"]
    before, after = (recalibrate(study, f) for f in (frame, touched))
    predicted = ["risk_score", LOWER_BOUND, *(survival_column(t) for t in predicted_times(study.contract))]
    for fold in "01234":
        same = before.predictions.loc[frame["fold"] == fold, predicted].equals(
            after.predictions.loc[frame["fold"] == fold, predicted]
        )
        assert same == (fold == "2"), fold
    assert before.fitted["federated"]["2"] == after.fitted["federated"]["2"]


def test_nested_predictions_calibrate_where_they_are_given() -> None:
    frame = made_up()
    others = pd.concat(
        [frame[frame["fold"] != fold].assign(**{TEST_FOLD: fold}) for fold in frame["fold"].unique()]
    )
    study = STUDY.with_changes(evaluation={"temperature": "common"})
    plain, nested = recalibrate(study, frame), recalibrate(study, frame, others)
    pd.testing.assert_frame_equal(plain.predictions, nested.predictions)
    assert {one.source for one in nested.fitted["federated"].values()} == {"nested"}
    half = others[others["patient_id"] < "p0300"]
    assert recalibrate(study, frame, half).fitted["federated"]["0"].bound.n == 240  # type: ignore[union-attr]


def test_temperatures_are_found_in_the_table_and_only_applied_if_asked() -> None:
    frame = made_up(temperature=2.0)
    assert recalibrate(STUDY, frame).predictions["risk_score"].equals(frame["risk_score"])
    study = STUDY.with_changes(evaluation={"temperature": "scenario"})
    done = recalibrate(study, frame)
    for fitted in done.fitted["federated"].values():
        assert fitted.temperatures is not None
        assert fitted.temperatures.common.temperature == pytest.approx(2.0, rel=0.25)
        assert len(fitted.temperatures.by_scenario) == 2
    truth = made_up()
    column = survival_column(1095.75)
    before, after = (np.abs(f[column] - truth[column]).mean() for f in (frame, done.predictions))
    assert after < 0.35 * before
    found = temperature_effect(study, frame, follow_up(frame))
    assert list(found) == ["none", "common", "scenario"]
    assert found["none"]["slope"]["estimate"] == pytest.approx(0.5, abs=0.08)
    assert found["scenario"]["slope"]["estimate"] == pytest.approx(1.0, abs=0.15)
    for mode in ("common", "scenario"):
        assert found[mode]["minus_none"]["log_loss"]["high"] < 0
        assert found[mode]["minus_none"]["ibs"]["high"] < 0
        assert found[mode]["residuals"]["rejected"] < found["none"]["residuals"]["rejected"]


def test_baselines_keep_their_curves_and_get_bounds() -> None:
    frame = made_up(temperature=2.0)
    both = pd.concat([frame, frame.assign(arm="cox_clinical")], ignore_index=True)
    study = STUDY.with_changes(evaluation={"temperature": "common"})
    done = recalibrate(study, both).predictions
    cox = done["arm"] == "cox_clinical"
    assert done.loc[cox, "risk_score"].equals(both.loc[cox, "risk_score"])
    assert not done.loc[~cox, "risk_score"].equals(both.loc[~cox, "risk_score"])
    assert done[LOWER_BOUND].notna().all()
    assert list(done["patient_id"]) == list(both["patient_id"])


def test_one_fold_calibrates_nobody() -> None:
    frame = made_up(folds=1)
    done = recalibrate(STUDY, frame)
    pd.testing.assert_frame_equal(done.predictions, frame)
    training = Censoring(frame["time_days"].to_numpy(), frame["event"].to_numpy() == 1)
    scoring = Scoring(STUDY, frame, {"0": training})
    figures = {name: one.as_dict() for name, one in scoring.estimates("federated")["survival"].items()}
    tables = calibration(STUDY, scoring, done.fitted, {"federated": {"survival": figures}}, [])
    assert "lower_bound" not in tables["federated"]
    assert tables["federated"]["d_calibration"]["folds"] == 1


def test_what_a_bundle_gets(right: dict) -> None:  # type: ignore[type-arg]
    found = released_calibration(right)
    assert found is not None
    assert found["bins_days"] == list(STUDY.contract.survival.bins)  # type: ignore[union-attr]
    assert found["lower_bound"]["n"] == 600
    assert found["lower_bound"]["death_probability"] == pytest.approx(0.1, abs=0.03)
    assert found["temperatures"] is None
    assert found["coverage"] == right["calibration"]["federated"]["lower_bound"]["coverage"]
    assert released_calibration({**right, "recalibration": None}) is None


def test_figures_of_several_cohorts(right: dict) -> None:  # type: ignore[type-arg]
    wrong = made_up()
    for days in predicted_times(STUDY.contract):
        wrong[survival_column(days)] = wrong[survival_column(days)] ** 2.0
    figures = calibration_figures({"GOOD": right, "BAD": results_of(STUDY, wrong)})
    assert figures["rejected"]["federated"]["d_calibration"] == {"rejected": 5, "folds": 10}
    assert set(figures["cohorts"]["GOOD"]["federated"]) >= {"horizons", "slope", "lower_bound"}
    text = calibration_text(figures)
    assert "| BAD | Federated |" in text
    assert "5 of 10 folds" in text
    assert "nan" not in text.lower()
    assert len(calibration_summary(right)) == 2
    assert calibration_summary({"calibration": {}}) == []
