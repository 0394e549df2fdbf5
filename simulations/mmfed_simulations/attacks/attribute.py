"""Attribute inference: does the model betray a column that the attacker lacks of a patient?

The attacker knows everything else of the patient, outcomes included. Without the model: a logistic regression
from the other clinical features and the outcomes, fitted on strangers. With the model: the same probability
times the likelihood that the model gives the outcomes with each possible value put in (Fredrikson et al.,
2014). What the model adds for strangers is what it learned about people at large; what it adds for members
above that is what it keeps of them (Yeom et al., 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mmfed_client.site import SiteData
from mmfed_common.bundle import Bundle
from mmfed_common.contract import Column, Contract
from mmfed_common.errors import ModelError
from mmfed_common.metrics.estimate import Floats, bootstrap_counts
from mmfed_common.patients import Outcomes, PatientTensors
from mmfed_common.randomness import derive_seed
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study
from mmfed_simulations.attacks.defences import RELEASED, Defence
from mmfed_simulations.attacks.figures import RESAMPLES, Interval, weighted_auc
from mmfed_simulations.attacks.shadows import Measured, Patients, Training, measure, train_model
from mmfed_simulations.evaluation.site_data import join_patients

Told = Callable[[str, int, int], None]
Bools = npt.NDArray[np.bool_]
CLINICAL = "clinical_feature"
FOLDS = 5
LEAST = 20
"""Fewer patients of one kind with the column known give no figure."""


@dataclass(frozen=True)
class Gain:
    """AUC of guessing a column (mean over its values, each against the rest).

    Attributes
    ----------
    without, with_model
        AUC of the guess.
    advantage
        ``with_model`` less ``without``, on the same resamples.
    patients
        How many were guessed.
    """

    without: Interval
    with_model: Interval
    advantage: Interval
    patients: int


@dataclass(frozen=True)
class AttributeRow:
    """One defence, one column: what the model adds for members, for strangers, and the difference."""

    defence: Defence
    column: str
    members: Gain
    strangers: Gain
    leak: Interval


def sensitive_columns(contract: Contract, chosen: Sequence[str] | None) -> dict[str, Column]:
    """The columns to hide: those chosen, or every binary, ordinal and category column.

    Raises
    ------
    ModelError
        ``MMF-624`` when one is not a column of the study, or is a number.
    """
    known = {name: column for name, column in contract.columns.items() if column.kind != "number"}
    for name in chosen or ():
        if name not in known:
            raise ModelError("MMF-624", f"{name!r} is none of {', '.join(known) or 'none'}")
    if not known:
        raise ModelError("MMF-624", "the study has no such column")
    return {name: known[name] for name in chosen} if chosen else known


def attack_attribute(
    bundle: Bundle,
    patients: Patients,
    defences: Sequence[Defence],
    columns: Sequence[str] | None = None,
    told: Told | None = None,
) -> list[AttributeRow]:
    """Attack a bundle, and the same study trained under each defence.

    Columns of which too few members or strangers have two values known are left out.

    Raises
    ------
    ModelError
        ``MMF-624`` for a column that cannot be guessed, ``MMF-622`` when no column is left.
    """
    hidden = sensitive_columns(bundle.study.contract, columns)
    sites = patients.sites(bundle.study)
    largest = max(int((~site.held_out).sum()) for site in sites)
    rows = []
    for defence in defences:
        study = defence.applied(bundle.study, largest)
        state, scaling = bundle.state, bundle.scaling
        if defence.name != RELEASED:
            state, scaling = train_model(patients, Training(study, None))
        own = patients.sites(study)
        for number, (name, column) in enumerate(hidden.items(), start=1):
            parts = _column(study, own, state, scaling, name, column)
            if parts is not None:
                rows.append(AttributeRow(defence, name, *parts))
            if told is not None:
                told(defence.label, number, len(hidden))
    if not rows:
        raise ModelError("MMF-622", f"fewer than {LEAST} members or strangers have a column known")
    return rows


def _column(
    study: Study,
    sites: Sequence[SiteData],
    state: dict[str, Tensor],
    scaling: Scaling | None,
    name: str,
    column: Column,
) -> tuple[Gain, Gain, Interval] | None:
    everybody = join_patients([site.patients for site in sites])
    places, codes = encodings(study.contract, name, column)
    value, known = _values(everybody, places, codes)
    said = [measure(study, [_with(s, places, code) for s in sites], state, scaling) for code in codes]
    likelihood = -np.stack([np.nansum(one.loss, axis=1) for one in said], axis=1)
    member, stranger = _groups(said[0], known)
    if any(_too_few(value[group]) for group in (member, stranger)):
        return None
    prior = _prior(_others(everybody, places), value, member, stranger, study.study.seed, len(codes))
    posterior = prior * np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    gains, resampled = [], []
    for group in (member, stranger):
        gain, advantage = _gain(value[group], prior[group], posterior[group], study.study.seed)
        gains.append(gain)
        resampled.append(advantage)
    return gains[0], gains[1], Interval.of(resampled[0] - resampled[1])


def encodings(contract: Contract, name: str, column: Column) -> tuple[list[int], Floats]:
    """Where a column lies among the clinical features, and what each of its values looks like there.

    Returns
    -------
    list of int, (values, places)
    """
    features = list(contract.clinical_features())
    if column.kind == "category":
        places = [features.index(f"{name}={value}") for value in column.values[1:]]
        return places, np.vstack([np.zeros(len(places)), np.eye(len(places))])
    count = len(column.values) if column.kind == "ordinal" else 2
    return [features.index(name)], np.arange(count, dtype=np.float64)[:, None]


def _values(
    patients: PatientTensors, places: list[int], codes: Floats
) -> tuple[npt.NDArray[np.int64], Bools]:
    """Which value each patient has, and whether it is known."""
    node = patients.nodes[CLINICAL]
    held = node.values[:, places, 0].double().numpy()
    distance = np.abs(held[:, None, :] - codes[None]).sum(axis=2)
    return distance.argmin(axis=1), node.present[:, places, 0].all(dim=1).numpy()


def _with(site: SiteData, places: list[int], code: Floats) -> SiteData:
    """The site as if every patient had one value of the column."""
    node = site.patients.nodes[CLINICAL]
    values, present = node.values.clone(), node.present.clone()
    values[:, places, 0] = torch.tensor(code, dtype=values.dtype)
    present[:, places, 0] = True
    nodes = {**site.patients.nodes, CLINICAL: replace(node, values=values, present=present)}
    return replace(site, patients=replace(site.patients, nodes=nodes))


def _groups(said: Measured, known: Bools) -> tuple[Bools, Bools]:
    asked = known & ~said.unclear & np.isfinite(said.loss).any(axis=1)
    return asked & said.inside, asked & ~said.inside


def _too_few(value: npt.NDArray[np.int64]) -> bool:
    numbers = np.bincount(value) if len(value) else np.zeros(1)
    return len(value) < LEAST or int((numbers >= FOLDS).sum()) < 2


def _others(patients: PatientTensors, places: list[int]) -> Floats:
    """``(patients, features)``: what the attacker knows beside the column, outcomes included."""
    node = patients.nodes[CLINICAL]
    keep = [i for i in range(node.values.shape[1]) if i not in places]
    parts = [node.values[:, keep, 0], node.present[:, keep, 0], *_outcome_columns(patients.outcomes)]
    result: Floats = torch.cat([part.double() for part in parts], dim=1).numpy()
    return result


def _outcome_columns(outcomes: Outcomes) -> list[Tensor]:
    known = outcomes.survival_known
    survival = [torch.where(known, outcomes.time_days, 0.0).log1p(), torch.where(known, outcomes.event, 0.0)]
    classes = max(int(outcomes.response.max()) + 1, 1) if len(outcomes.response) else 1
    response = torch.stack([outcomes.response == c for c in range(-1, classes)], dim=1)
    toxicity = torch.where(outcomes.toxicity_known, outcomes.toxicity, 0.5)
    return [torch.stack([*survival, known.float()], dim=1), response, toxicity]


def _prior(
    features: Floats, value: npt.NDArray[np.int64], member: Bools, stranger: Bools, seed: int, values: int
) -> Floats:
    """``(patients, values)`` guess without the model: fitted on strangers, cross-fitted for themselves."""
    guess = np.full((len(value), values), 1.0 / values)
    counts = np.bincount(value[stranger], minlength=values)
    usable = stranger & (counts[value] >= FOLDS)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=derive_seed(seed, "attribute") % 2**32)
    columns = np.flatnonzero(counts >= FOLDS)
    rest = stranger & ~usable
    known = cross_val_predict(model, features[usable], value[usable], cv=folds, method="predict_proba")
    guess[np.ix_(usable, columns)] = known
    fitted = model.fit(features[usable], value[usable])
    for group in (member, rest):
        if group.any():
            guess[np.ix_(group, columns)] = fitted.predict_proba(features[group])
    bounded: Floats = np.maximum(guess, 1e-6)
    return bounded


def _gain(value: npt.NDArray[np.int64], prior: Floats, posterior: Floats, seed: int) -> tuple[Gain, Floats]:
    counts = bootstrap_counts(len(value), RESAMPLES, seed, "attribute")
    weights = np.concatenate([np.ones((1, len(value))), counts])
    shares = posterior / posterior.sum(axis=1, keepdims=True)
    without, with_model = _macro_auc(value, prior, weights), _macro_auc(value, shares, weights)
    advantage = with_model - without
    return (
        Gain(Interval.of(without), Interval.of(with_model), Interval.of(advantage), len(value)),
        advantage,
    )


def _macro_auc(value: npt.NDArray[np.int64], chance: Floats, weights: Floats) -> Floats:
    """Mean over the column's values of the AUC of each against the rest."""
    present = [v for v in range(chance.shape[1]) if 0 < (value == v).sum() < len(value)]
    every = np.stack([weighted_auc(chance[:, v], value == v, weights) for v in present])
    known = np.isfinite(every)
    total: Floats = np.where(known, every, 0.0).sum(axis=0)
    mean: Floats = total / np.maximum(known.sum(axis=0), 1)
    return mean
