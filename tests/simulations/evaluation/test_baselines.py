"""Baselines: equal to the libraries on the same table, learned from training patients only."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.simulations.evaluation.toy_cohort import toy_cohort, toy_topology

from mmfed_common.metrics import harrell_c
from mmfed_common.patients import PatientTensors
from mmfed_simulations.evaluation.baselines import (
    PENALTIES,
    SMALL_PENALTY,
    choose_penalty,
    fit_baseline,
    fit_logistic,
)
from mmfed_simulations.evaluation.features import (
    Components,
    FeatureTable,
    Standardised,
    clinical_values,
    modality_values,
)

PATIENTS = toy_cohort(n=240, seed=5).patients
TOPOLOGY = toy_topology()
TRAINING = PATIENTS.select(torch.arange(0, 160))
TEST = PATIENTS.select(torch.arange(160, 240))


def _outcomes(patients: PatientTensors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    o = patients.outcomes
    return o.time_days.double().numpy(), o.event.numpy() == 1, o.survival_known.numpy()


def test_clinical_table_is_that_of_scikit_learn() -> None:
    """Impute by the training mean, scale by training mean and deviation of the measured values."""
    found = FeatureTable.fit(TRAINING, TOPOLOGY, (), 0).apply(TEST)
    raw, new = clinical_values(TRAINING), clinical_values(TEST)
    scaled = StandardScaler().fit(raw)  # leaves NaN out
    expected = SimpleImputer(strategy="constant", fill_value=0.0).fit_transform(scaled.transform(new))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_columns_that_do_not_vary_are_dropped() -> None:
    table = Standardised.fit(np.array([[1.0, 5.0, np.nan], [2.0, 5.0, np.nan], [4.0, 5.0, 3.0]]))
    assert table.apply(np.array([[2.0, 9.0, 9.0]])).shape == (1, 1)


def test_components_are_those_of_training_patients_who_have_the_modality() -> None:
    training, new = (modality_values(p, TOPOLOGY)["gene.expression"] for p in (TRAINING, TEST))
    fitted = Components.fit(training, 4)
    assert fitted is not None
    scores = fitted.apply(new)
    measured = np.isfinite(training).all(axis=1)
    oracle = make_pipeline(StandardScaler(), PCA(4, svd_solver="full"), StandardScaler()).fit(
        training[measured]
    )
    have = np.isfinite(new).all(axis=1)
    # two deviations that differ: PCA's explained variance divides by n - 1
    factor = np.sqrt((measured.sum() - 1) / measured.sum())
    np.testing.assert_allclose(scores[have], oracle.transform(new[have]) * factor, atol=1e-8)
    assert (scores[~have] == 0).all()
    assert (~have).any()


def test_no_components_where_nobody_has_the_modality() -> None:
    assert Components.fit(np.full((10, 3), np.nan), 4) is None


def test_cox_clinical_is_lifelines() -> None:
    fitted = fit_baseline("cox_clinical", TRAINING, TOPOLOGY, 1)
    time, event, known = _outcomes(TRAINING)
    table = FeatureTable.fit(TRAINING.select(torch.from_numpy(np.flatnonzero(known))), TOPOLOGY, (), 0)
    frame = pd.DataFrame(table.apply(TRAINING)[known], columns=["a", "b"])
    frame["time"], frame["event"] = time[known], event[known]
    model = CoxPHFitter(penalizer=SMALL_PENALTY).fit(frame, "time", "event")
    new = pd.DataFrame(table.apply(TEST), columns=["a", "b"])
    np.testing.assert_allclose(fitted.risk(TEST), model.predict_log_partial_hazard(new), atol=1e-6)
    times = np.array([365.25, 1095.75])
    np.testing.assert_allclose(
        fitted.survival(TEST, times), model.predict_survival_function(new, times=times).T, atol=1e-6
    )


def test_expression_adds_what_was_planted() -> None:
    time, event, known = _outcomes(TEST)
    concordance = {
        name: harrell_c(
            fit_baseline(name, TRAINING, TOPOLOGY, 1).risk(TEST)[known], time[known], event[known]
        ).value
        for name in ("cox_clinical", "cox_expression", "ridge_all")
    }
    assert concordance["cox_expression"] > concordance["cox_clinical"] + 0.05
    assert concordance["ridge_all"] == pytest.approx(concordance["cox_expression"])


def test_higher_risk_means_lower_survival() -> None:
    fitted = fit_baseline("cox_expression", TRAINING, TOPOLOGY, 1)
    alive = fitted.survival(TEST, np.array([365.25, 1095.75]))
    order = np.argsort(fitted.risk(TEST))
    assert (np.diff(alive[order], axis=0) <= 1e-12).all()
    assert (alive[:, 1] <= alive[:, 0]).all()


def test_penalty_is_chosen_the_same_way_twice_and_shrinks_noise() -> None:
    chosen = choose_penalty(TRAINING, TOPOLOGY, ("gene.expression",), 1)
    assert chosen == choose_penalty(TRAINING, TOPOLOGY, ("gene.expression",), 1)
    assert chosen in PENALTIES
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(TRAINING), generator=generator)
    shuffled = PatientTensors(TRAINING.patient_ids, TRAINING.nodes, TRAINING.outcomes.select(order))
    assert choose_penalty(shuffled, TOPOLOGY, ("gene.expression",), 1) > chosen


def test_logistic_is_scikit_learn() -> None:
    table = FeatureTable.fit(TRAINING, TOPOLOGY, (), 0)
    truth = TRAINING.outcomes.response.double().numpy()
    truth = np.where(truth >= 0, truth, np.nan)
    found = fit_logistic(TRAINING, table, truth, TEST, 2)
    known = np.isfinite(truth)
    model = LogisticRegression(max_iter=1000).fit(table.apply(TRAINING)[known], truth[known].astype(int))
    np.testing.assert_allclose(found, model.predict_proba(table.apply(TEST)), atol=1e-6)


@pytest.mark.parametrize(("labels", "expected"), [([1.0, 1.0, np.nan], [0, 1, 0]), ([np.nan] * 3, [0, 0, 0])])
def test_logistic_with_one_class_or_none(labels: list[float], expected: list[int]) -> None:
    few = TRAINING.select(torch.arange(3))
    table = FeatureTable.fit(few, TOPOLOGY, (), 0)
    found = fit_logistic(few, table, np.array(labels), TEST, 3)
    assert (found == np.array(expected)).all()
