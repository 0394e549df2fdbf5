"""Baselines on identical patients: Cox models (lifelines) and logistic regression (scikit-learn).

Everything (means, components, penalties) is learned from the training patients of all sites together: a
baseline is what one could do if the data could be pooled.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError, ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from mmfed_common.contract import Contract
from mmfed_common.errors import StudyError
from mmfed_common.metrics.estimate import Floats
from mmfed_common.patients import PatientTensors
from mmfed_common.randomness import numpy_generator
from mmfed_common.topology import Topology
from mmfed_simulations.evaluation.features import FeatureTable, modality_values

logger = logging.getLogger(__name__)

COMPONENTS = 10
"""Principal components of each modality."""
SMALL_PENALTY = 0.01
"""Ridge penalty of Cox on clinical features: enough to make collinear columns harmless."""
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
INNER_FOLDS = 5
SURVIVAL_BASELINES = ("cox_clinical", "cox_expression", "ridge_all")


@dataclass(frozen=True)
class FittedCox:
    """A Cox model with the columns it was fitted on."""

    table: FeatureTable
    model: CoxPHFitter
    penalty: float

    def risk(self, patients: PatientTensors) -> Floats:
        """``(patients,)`` log partial hazard."""
        values = self.model.predict_log_partial_hazard(_frame(self.table.apply(patients)))
        return np.asarray(values, dtype=np.float64)

    def survival(self, patients: PatientTensors, times_days: Floats) -> Floats:
        """``(patients, times)`` probability of being alive (Breslow baseline of the training patients)."""
        curves = self.model.predict_survival_function(_frame(self.table.apply(patients)), times=times_days)
        return np.asarray(curves, dtype=np.float64).T.copy()


def _frame(values: Floats) -> pd.DataFrame:
    return pd.DataFrame(values, columns=[f"x{k}" for k in range(values.shape[1])])


def _outcome_frame(values: Floats, patients: PatientTensors) -> pd.DataFrame:
    frame = _frame(values)
    frame["time"] = patients.outcomes.time_days.double().numpy()
    frame["event"] = patients.outcomes.event.double().numpy()
    return frame


def _with_outcome(patients: PatientTensors) -> PatientTensors:
    return patients.select(patients.outcomes.survival_known.nonzero().flatten())


def _fit_cox(frame: pd.DataFrame, penalty: float) -> tuple[CoxPHFitter, float]:
    """Fit; should Newton's method not converge, with ten times the penalty, which is logged."""
    while penalty <= 1000.0:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                return CoxPHFitter(penalizer=penalty).fit(frame, "time", "event"), penalty
        except ConvergenceError:
            logger.warning("Cox regression did not converge with penalty %g; using %g", penalty, penalty * 10)
            penalty *= 10
    raise StudyError("MMF-511", f"Cox regression on {len(frame)} patients does not converge")


def applicable(name: str, contract: Contract) -> bool:
    """Whether a study has what a baseline needs."""
    if name == "logistic_clinical":
        return bool(contract.columns) and (contract.response is not None or contract.toxicity is not None)
    if contract.survival is None or not contract.columns:
        return False
    if name == "cox_expression":
        return contract.gene is not None and "expression" in contract.gene.layers
    if name == "ridge_all":
        return contract.node_types != ("clinical_feature",)
    return name == "cox_clinical"


def fit_baseline(name: str, training: PatientTensors, topology: Topology, seed: int) -> FittedCox:
    """Fit one of :data:`SURVIVAL_BASELINES` on training patients.

    ``cox_clinical``: clinical features, a small ridge penalty. ``cox_expression``: also the first components
    of gene expression. ``ridge_all``: clinical features and components of every modality. The penalty of
    the last two is chosen by inner cross-validation among the training patients.

    Raises
    ------
    StudyError
        ``MMF-511`` when the regression does not converge whatever the penalty.
    """
    training = _with_outcome(training)
    if name == "cox_clinical":
        table = FeatureTable.fit(training, topology, (), COMPONENTS)
        return FittedCox(table, *_fit_cox(_outcome_frame(table.apply(training), training), SMALL_PENALTY))
    every = tuple(modality_values(training, topology))
    modalities = ("gene.expression",) if name == "cox_expression" else every
    penalty = choose_penalty(training, topology, modalities, seed)
    table = FeatureTable.fit(training, topology, modalities, COMPONENTS)
    return FittedCox(table, *_fit_cox(_outcome_frame(table.apply(training), training), penalty))


def choose_penalty(
    training: PatientTensors, topology: Topology, modalities: tuple[str, ...], seed: int
) -> float:
    """Choose the penalty with the highest partial log-likelihood of inner held-out patients.

    Components and means are learned anew in each inner training part.
    """
    order = numpy_generator(seed, "inner folds", len(training)).permutation(len(training))
    event = training.outcomes.event.numpy()[order]
    fold = np.empty(len(training), dtype=np.int64)
    for value in (0, 1):  # the same share of deaths in each inner fold
        rows = order[event == value]
        fold[rows] = np.arange(len(rows)) % INNER_FOLDS
    scores = np.zeros(len(PENALTIES))
    for k in range(INNER_FOLDS):
        index = training.outcomes.time_days.new_tensor(np.flatnonzero(fold != k)).long()
        inner = training.select(index)
        left = training.select(training.outcomes.time_days.new_tensor(np.flatnonzero(fold == k)).long())
        if not bool(left.outcomes.event.any()) or not bool(inner.outcomes.event.any()):
            continue
        table = FeatureTable.fit(inner, topology, modalities, COMPONENTS)
        frame, held_out = (_outcome_frame(table.apply(part), part) for part in (inner, left))
        for position, penalty in enumerate(PENALTIES):
            model, _ = _fit_cox(frame, penalty)
            scores[position] += model.score(held_out, scoring_method="log_likelihood")
    return PENALTIES[int(np.argmax(scores))]


def fit_logistic(
    training: PatientTensors, table: FeatureTable, truth: Floats, patients: PatientTensors, classes: int
) -> Floats:
    """Predict class probabilities ``(patients, classes)`` by logistic regression on clinical features.

    Parameters
    ----------
    truth
        ``(training patients,)`` class index, NaN where unknown. A class that no training patient has gets
        probability 0; if all have the same class, that one gets 1.
    """
    known = np.isfinite(truth)
    labels = truth[known].astype(np.int64)
    result = np.zeros((len(patients), classes))
    present = np.unique(labels)
    if len(present) == 1:
        result[:, present[0]] = 1.0
    elif len(present) > 1:
        model = LogisticRegression(max_iter=1000).fit(table.apply(training)[known], labels)
        result[:, model.classes_] = model.predict_proba(table.apply(patients))
    return result
