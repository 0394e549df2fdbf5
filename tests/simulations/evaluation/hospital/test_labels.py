"""A site whose labels are flipped is named, for the right mistake, and no other site ever is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.simulations.evaluation import hospitals

from mmfed_client.cohort import Cohort
from mmfed_common.patients import Outcomes
from mmfed_simulations.evaluation.compare import compare
from mmfed_simulations.evaluation.hospital.labels import (
    at_risk_parts,
    suspicious_labels,
)
from mmfed_simulations.evaluation.hospital.scores import site_metrics
from mmfed_simulations.evaluation.predictions import (
    add_survival,
    known_survival,
    scored_times,
    truth_frame,
)

SIZES = (160, 120, 90, 90, 70, 60, 50, 30)
CONTRACT = hospitals.STUDY.contract
MISTAKES: dict[str, Callable[[Outcomes], Outcomes]] = {
    "event": hospitals.exchanged,
    "classes": hospitals.upside_down,
    "labels": hospitals.inverted,
}


def predicted(cohort: Cohort, slope: float = 1.0) -> pd.DataFrame:
    """What a model would say that knows the truth, or makes ``slope`` times too much of it."""
    values = cohort.patients.nodes["clinical_feature"].values[:, :, 0].double().numpy()
    log_hazard = slope * values @ np.array([0.8, 0.8])
    frame = truth_frame(CONTRACT, cohort.patients, cohort.sites, arm="federated", fold=0)
    frame["fold"] = [str(k) for k in cohort.folds or ()]
    alive = np.exp(-np.exp(log_hazard)[:, None] * scored_times(CONTRACT)[None, :] / 900)
    frame = add_survival(frame, CONTRACT, log_hazard, alive)
    below = [1 / (1 + np.exp(-(cut + log_hazard))) for cut in (-0.5, 1.0)]
    for name, chance in zip(
        ("none", "partial", "complete"), (below[0], below[1] - below[0], 1 - below[1]), strict=True
    ):
        frame[f"response_{name}"] = chance
    for label in ("nausea", "rash"):
        frame[f"toxicity_{label}"] = 1 / (1 + np.exp(0.5 - log_hazard))
    return frame


def found(cohort: Cohort, slope: float = 1.0) -> dict[str, Any]:
    return suspicious_labels(hospitals.STUDY, predicted(cohort, slope))


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("site", ["hospital-0", "hospital-1", "hospital-4"])
def test_exactly_the_mistaken_site_is_named_for_its_mistake(mistake: str, site: str) -> None:
    for seed in (0, 1):
        cohort = hospitals.mistaken(hospitals.hospitals(SIZES, seed), site, MISTAKES[mistake])
        named = found(cohort)["named"]
        assert [(one["site"], one["mistake"]) for one in named] == [(site, mistake)], seed
        assert f"{site}: " in named[0]["text"]
        assert "ask the site" in named[0]["text"]


def test_a_site_whose_codes_are_turned_round_is_named() -> None:
    """Its features say the opposite of what they mean elsewhere: who seems safest dies first."""
    for seed in range(3):
        cohort = hospitals.hospitals(SIZES, seed)
        frame, turned = predicted(cohort), predicted(cohort, -1.0)
        here = frame["site"] == "hospital-1"
        frame[here] = turned[here]
        named = suspicious_labels(hospitals.SURVIVAL, frame)["named"]
        assert [(one["site"], one["mistake"]) for one in named] == [("hospital-1", "order")], seed


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, 2.0])
def test_no_site_is_named_where_all_are_right(slope: float) -> None:
    """Also for a model that is too sure of itself, too unsure, or knows nothing."""
    wrongly = [one for seed in range(8) for one in found(hospitals.hospitals(SIZES, seed), slope)["named"]]
    assert wrongly == []


def test_a_site_that_differs_in_everything_but_coding_is_not_named() -> None:
    """Nearly everybody dies at one site, and the model knows nothing of its patients."""
    for seed in range(5):
        cohort = hospitals.hospitals(SIZES, seed)
        frame = predicted(cohort)
        here = frame["site"] == "hospital-0"
        shuffled = frame[here].sample(frac=1.0, random_state=seed)
        columns = [c for c in frame if c.startswith(("risk", "survival_"))]
        frame.loc[here, columns] = shuffled[columns].to_numpy()
        frame.loc[here & (frame["time_days"] > 60), "event"] = 1.0
        assert [one["site"] for one in suspicious_labels(hospitals.STUDY, frame)["named"]] == [], seed


def test_the_likelihood_is_that_of_whose_turn_it_is() -> None:
    """Three patients by hand: log of exp(score) over the sum at risk, against one over their number."""
    score, time = np.array([1.0, 0.0, -1.0]), np.array([10.0, 20.0, 20.0])
    likelihood, centred, variance = at_risk_parts(score, time, np.zeros(3))
    all_three = np.log(np.exp(1) / (np.exp(1) + 1 + np.exp(-1))) - np.log(1 / 3)
    last_two = [np.log(np.exp(s) / (1 + np.exp(-1))) - np.log(1 / 2) for s in (0.0, -1.0)]
    np.testing.assert_allclose(likelihood, [all_three, *last_two])
    np.testing.assert_allclose(centred, [1.0, 0.5, -0.5])
    np.testing.assert_allclose(variance, [2 / 3, 0.25, 0.25])


def test_patients_of_different_folds_are_not_compared() -> None:
    score, time = np.array([1.0, 7.0]), np.array([10.0, 20.0])
    for part in at_risk_parts(score, time, np.array([0.0, 1.0])):
        np.testing.assert_allclose(part, 0, atol=1e-12)


def test_the_figures_are_those_of_the_site() -> None:
    cohort = hospitals.mistaken(hospitals.hospitals(SIZES, 0), "hospital-1", hospitals.exchanged)
    frame = predicted(cohort)
    test = next(
        t
        for t in suspicious_labels(hospitals.STUDY, frame)["tests"]
        if (t["site"], t["mistake"]) == ("hospital-1", "event")
    )
    rows = frame[(frame["site"] == "hospital-1") & known_survival(frame)]
    rows = rows.sort_values(["fold", "patient_id"])
    assert test["patients"] == len(rows) == 120
    assert test["recorded"] == pytest.approx(site_metrics(rows, CONTRACT, "survival")["c_index"].value)
    turned = rows.assign(event=1 - rows["event"])
    assert test["undone"] == pytest.approx(site_metrics(turned, CONTRACT, "survival")["c_index"].value)
    assert test["recorded"] < 0.6 < 0.7 < test["undone"]
    assert test["low"] < test["log_likelihood_ratio"] < test["high"]


def test_holm_over_all_sites_for_each_mistake() -> None:
    tests = found(hospitals.hospitals(SIZES, 0))["tests"]
    for mistake in ("event", "order", "classes", "labels"):
        family = sorted((t for t in tests if t["mistake"] == mistake), key=lambda test: test["p"])
        expected, highest = [], 0.0
        for rank, test in enumerate(family):
            highest = max(highest, min(1.0, (len(family) - rank) * test["p"]))
            expected.append(highest)
        assert [test["p_holm"] for test in family] == expected
        assert len(family) >= len(SIZES) - 1  # the smallest may have too few events


def test_who_is_lost_from_sight_ill_accuses_no_site() -> None:
    """Censoring that follows the predicted risk is no exchange while deaths follow it too."""
    for seed in range(5):
        cohort = hospitals.hospitals(SIZES, seed)
        frame = predicted(cohort)
        lost = frame[(frame["site"] == "hospital-1") & (frame["event"] == 0)].sort_values("risk_score")
        frame.loc[lost.index, "time_days"] = np.sort(lost["time_days"])[::-1]
        tests = suspicious_labels(hospitals.SURVIVAL, frame)
        row = next(t for t in tests["tests"] if (t["site"], t["mistake"]) == ("hospital-1", "event"))
        assert row["p"] < 0.05
        assert tests["named"] == [], seed


def test_a_site_with_too_few_patients_or_events_is_not_tested() -> None:
    cohort = hospitals.mistaken(hospitals.hospitals((150, 150, 12), 0), "hospital-2", hospitals.exchanged)
    frame = predicted(cohort)
    frame.loc[(frame["site"] == "hospital-1"), "event"] = 0.0
    tests = suspicious_labels(hospitals.SURVIVAL, frame)["tests"]
    assert {test["site"] for test in tests} == {"hospital-0"}


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.e2e)])
def test_a_whole_comparison_names_the_planted_site_and_none_without(seed: int, tmp_path: Path) -> None:
    """With models that the flipped site helped to train."""
    clean = hospitals.hospitals(SIZES, seed)
    for name, cohort, expected in (
        ("clean", clean, []),
        ("flipped", hospitals.mistaken(clean, "hospital-2", hospitals.exchanged), ["hospital-2"]),
    ):
        comparison = compare(
            hospitals.SURVIVAL,
            cohort,
            hospitals.topology(),
            tmp_path / name,
            arms=["federated"],
            workers=1,
        )
        worth = comparison.results["worth"]
        assert [one["site"] for one in worth["labels"]["named"]] == expected
        told = [note for note in comparison.results["notes"] if note.startswith("Labels of")]
        assert len(told) == len(expected)
        assert all(note in comparison.report.read_text(encoding="utf-8") for note in told)
