"""Which site's labels seem to be flipped: its outcomes fit the federated model better when changed back.

Each of a site's held-out patients was scored by a model that never saw this patient. Of every mistake in
coding that is looked for, the likelihood of the site's outcomes as recorded is compared with that of the
outcomes with the mistake undone. What a site's own base rate can explain is left out of both: survival is
compared within the patients at risk (a partial likelihood), classes and labels after fitting the site's own
shares. So a site whose patients die more often, or are followed longer, is not named for it.

Exchanged event and censoring: under the right coding deaths come in the order of the hazards and censoring
in any order; under the flipped one it is the other way round. (The C-index of such a site is about 0.5, not
far below it: who is censored next is a matter of chance.) So two things must hold. The recorded censorings
come in the order of the hazards: a score test, which a site where the model merely fails does not pass. And
the recorded deaths do so less: the likelihood ratio, which a site does not pass where the ill are lost from
sight but the deaths are as predicted.

Reversed order: those die first whom the model holds safest, as where codes of features run the other way.
Time that runs backwards is seen in part only, because the order of censorings hides it.

A site's other patients trained the model that scores it: flipped, they weaken the model, the more of all
patients are theirs. Leave-site-out folds have no such pull.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax
from scipy.stats import norm

from mmfed_common.contract import Contract
from mmfed_common.metrics.estimate import HIGH, LOW, Floats
from mmfed_common.metrics.resampled import Bools
from mmfed_common.randomness import numpy_generator
from mmfed_common.study import Study
from mmfed_simulations.evaluation.hospital.scores import (
    informative,
    response_chances,
    response_truth,
    toxicity_chances,
    toxicity_truth,
)
from mmfed_simulations.evaluation.hospital.within_site import label_pairs, survival_pairs
from mmfed_simulations.evaluation.predictions import survival_column
from mmfed_simulations.evaluation.scores import scorable

LEAST_PATIENTS, LEAST_EVENTS = 20, 10
RESAMPLES = 10_000
LEVEL = 0.05
"""Chance to name any site wrongly for one mistake, at most, over all sites."""
FLOOR = 1e-9


@dataclass(frozen=True)
class Mistake:
    """A mistake in coding that is looked for.

    Attributes
    ----------
    words
        What the site's table seems to hold.
    ask
        What to ask the site.
    """

    words: str
    ask: str


MISTAKES: dict[str, Mistake] = {
    "event": Mistake(
        "death and censoring seem to be exchanged",
        "ask the site to check the coding of `event` (1 is death, 0 is censored)",
    ),
    "order": Mistake(
        "those with the highest predicted risk seem to die last",
        "ask the site to check the direction of its clinical codes, and how `time` is reckoned",
    ),
    "classes": Mistake(
        "the classes of response seem to be reversed",
        "ask the site to check the order of its classes of response",
    ),
    "labels": Mistake(
        "toxicity seems to be inverted", "ask the site to check its coding of toxicity (1 is an event)"
    ),
}


@dataclass(frozen=True)
class Evidence:
    """What one site's outcomes say about one mistake.

    Attributes
    ----------
    gain
        ``(patients,)`` log-likelihood with the mistake undone minus as recorded.
    order
        p of the score test that must hold besides; None where the gain is the test.
    recorded, undone
        C-index (AUROC for classes and labels) within the site, as recorded and with the mistake undone.
    """

    gain: Floats
    order: float | None
    recorded: float
    undone: float


def suspicious_labels(study: Study, predictions: pd.DataFrame, arm: str = "federated") -> dict[str, Any]:
    """Look at every site for labels that seem to be flipped.

    Parameters
    ----------
    predictions
        The table of predictions of held-out patients.
    arm
        Whose predictions are used.

    Returns
    -------
    dict
        ``tests``: one row for each site and mistake: ``site``, ``task``, ``mistake``, ``patients``,
        ``log_likelihood_ratio`` with ``low``, ``high`` (95 %) and ``p_ratio`` (one-sided), by bootstrap over
        the site's patients; ``p``, of the score test for ``event`` and ``p_ratio`` for the others; ``p_holm``
        over all sites; ``recorded``, ``undone``; ``named``, where ``p_holm`` and ``p_ratio`` are below
        ``level``. ``named``: the sites named, each with ``site``, ``mistake`` and ``text``.
    """
    rows = predictions[predictions["arm"] == arm]
    tests = []
    for site in sorted(set(rows["site"])):
        for task in study.contract.tasks:
            own = rows[rows["site"] == site]
            own = own[scorable(own, task, study.contract)].sort_values(["fold", "patient_id"])
            if _enough(own, study.contract, task):
                tests += [
                    _test(study, site, task, name, e) for name, e in _evidence(own, study.contract, task)
                ]
    _adjust(tests)
    for row in tests:
        row["named"] = bool(row["p_holm"] < LEVEL and row["p_ratio"] < LEVEL)
    strongest: dict[str, dict[str, Any]] = {}
    for row in sorted((row for row in tests if row["named"]), key=lambda row: -row["log_likelihood_ratio"]):
        strongest.setdefault(row["site"], row)
    return {
        "arm": arm,
        "tests": tests,
        "named": [
            {"site": site, "mistake": row["mistake"], "text": _text(row)} for site, row in strongest.items()
        ],
        "level": LEVEL,
        "least_patients": LEAST_PATIENTS,
        "least_events": LEAST_EVENTS,
        "resamples": RESAMPLES,
    }


def _enough(rows: pd.DataFrame, contract: Contract, task: str) -> bool:
    if len(rows) < LEAST_PATIENTS or informative(rows, contract, task) < LEAST_EVENTS:
        return False
    if task == "survival":
        return int((rows["event"] == 0.0).sum()) >= LEAST_EVENTS
    return True


def _evidence(rows: pd.DataFrame, contract: Contract, task: str) -> Iterator[tuple[str, Evidence]]:
    if task == "survival":
        yield "event", _exchanged(rows, contract)
        yield "order", _reversed_order(rows, contract)
    elif task == "response":
        yield "classes", _reversed_classes(rows, contract)
    else:
        yield "labels", _inverted_labels(rows, contract)


def log_hazard(rows: pd.DataFrame, contract: Contract) -> Floats:
    """``(rows,)`` log-hazard, up to a constant of the fold: log −log survival at the last horizon."""
    assert contract.survival is not None
    alive = rows[survival_column(max(contract.survival.horizons))].to_numpy(np.float64)
    found: Floats = np.log(-np.log(np.clip(alive, FLOOR, 1.0 - FLOOR)))
    return found


def at_risk_parts(score: Floats, time: Floats, fold: Floats) -> tuple[Floats, Floats, Floats]:
    """Log-likelihood that it is this patient's turn among those at risk, against all being alike.

    And its score at no association, as in Cox's score test (Cox 1972).

    Parameters
    ----------
    score, time, fold
        ``(patients,)`` log-hazard, follow-up in days, and fold: patients are compared within folds.

    Returns
    -------
    ``(patients,)`` score minus log of the mean of exp(score) over those at risk; score minus their mean
    score; variance of their scores
    """
    at_risk = (time[None, :] >= time[:, None]) & (fold[None, :] == fold[:, None])
    share = at_risk / at_risk.sum(axis=1, keepdims=True)
    highest = score.max()
    mean = share @ score
    variance = (share * (score[None, :] - mean[:, None]) ** 2).sum(axis=1)
    return score - highest - np.log(share @ np.exp(score - highest)), score - mean, variance


def _exchanged(rows: pd.DataFrame, contract: Contract) -> Evidence:
    score, time, event, fold = _columns(rows, contract)
    likelihood, centred, variance = at_risk_parts(score, time, fold)
    spread = np.sqrt(variance[~event].sum())
    flipped = rows.assign(event=np.where(event, 0.0, 1.0))
    return Evidence(
        np.where(event, -likelihood, likelihood),
        float(norm.sf(centred[~event].sum() / spread)) if spread > 0 else 1.0,
        _value(survival_pairs(rows), len(rows)),
        _value(survival_pairs(flipped), len(rows)),
    )


def _reversed_order(rows: pd.DataFrame, contract: Contract) -> Evidence:
    score, time, event, fold = _columns(rows, contract)
    forwards, backwards = at_risk_parts(score, time, fold)[0], at_risk_parts(-score, time, fold)[0]
    c = _value(survival_pairs(rows), len(rows))
    return Evidence(np.where(event, backwards - forwards, 0.0), None, c, 1.0 - c)


def _reversed_classes(rows: pd.DataFrame, contract: Contract) -> Evidence:
    truth, logits = response_truth(rows, contract), np.log(response_chances(rows, contract))
    classes = logits.shape[1]
    undone = classes - 1 - truth
    recorded, changed = (_classes_ordered(rows, logits, labels) for labels in (truth, undone))
    gain = _with_own_shares(logits, undone) - _with_own_shares(logits, truth)
    return Evidence(gain, None, recorded, changed)


def _inverted_labels(rows: pd.DataFrame, contract: Contract) -> Evidence:
    (truth, known), chances = toxicity_truth(rows, contract), toxicity_chances(rows, contract)
    gain, areas = np.zeros(len(rows)), []
    for column in range(truth.shape[1]):
        at = np.flatnonzero(known[:, column])
        happened = truth[at, column]
        if happened.all() or not happened.any():
            continue
        logits = np.stack(
            [np.zeros(len(at)), np.log(chances[at, column] / (1 - chances[at, column]))], axis=1
        )
        gain[at] += _with_own_shares(logits, (~happened).astype(np.int64))
        gain[at] -= _with_own_shares(logits, happened.astype(np.int64))
        areas.append(_value(label_pairs(rows.iloc[at], chances[at, column], happened), len(at)))
    known_areas = [area for area in areas if np.isfinite(area)]
    area = float(np.mean(known_areas)) if known_areas else float("nan")
    return Evidence(gain, None, area, 1.0 - area)


def _columns(rows: pd.DataFrame, contract: Contract) -> tuple[Floats, Floats, Bools, Floats]:
    codes = rows["fold"].astype("category").cat.codes
    fold: Floats = np.asarray(codes, dtype=np.float64)
    time: Floats = rows["time_days"].to_numpy(np.float64)
    event: Bools = rows["event"].to_numpy(np.float64) == 1.0
    return log_hazard(rows, contract), time, event, fold


def _with_own_shares(logits: Floats, truth: Any) -> Floats:
    """Log-likelihood of each patient's class after fitting one shift a class, ``(patients,)``.

    A little ridge keeps the shift of a class that nobody has finite.
    """
    patients, classes = logits.shape
    seen = np.eye(classes)[truth]

    def loss(shift: Floats) -> tuple[float, Floats]:
        log_chance = log_softmax(logits + shift, axis=1)
        gradient = (np.exp(log_chance) - seen).sum(axis=0) + 1e-2 * shift
        return float(-(seen * log_chance).sum() + 5e-3 * shift @ shift), gradient

    shift = minimize(loss, np.zeros(classes), jac=True, method="BFGS").x
    found: Floats = log_softmax(logits + shift, axis=1)[np.arange(patients), truth]
    return found


def _classes_ordered(rows: pd.DataFrame, logits: Floats, truth: Any) -> float:
    """Share of pairs of different classes that the expected class orders rightly, within folds."""
    expected = np.exp(log_softmax(logits, axis=1)) @ np.arange(logits.shape[1])
    ordered = comparable = 0.0
    for fold in sorted(set(rows["fold"])):
        at = np.flatnonzero(rows["fold"].to_numpy() == fold)
        higher = truth[at][:, None] > truth[at][None, :]
        difference = expected[at][:, None] - expected[at][None, :]
        ordered += float((higher * ((difference > 0) + 0.5 * (difference == 0))).sum())
        comparable += float(higher.sum())
    return ordered / comparable if comparable else float("nan")


def _value(metric: Any, patients: int) -> float:
    return float(metric(np.ones((1, patients)))[0])


def _test(study: Study, site: str, task: str, mistake: str, found: Evidence) -> dict[str, Any]:
    patients = len(found.gain)
    generator = numpy_generator(study.study.seed, "labels", task, site)
    index = generator.integers(patients, size=(RESAMPLES, patients))
    drawn = found.gain[index].sum(axis=1)
    low, high = np.percentile(drawn, [LOW, HIGH])
    p_ratio = float((1 + (drawn <= 0).sum()) / (1 + len(drawn)))
    return {
        "site": site,
        "task": task,
        "mistake": mistake,
        "patients": patients,
        "log_likelihood_ratio": float(found.gain.sum()),
        "low": float(low),
        "high": float(high),
        "p_ratio": p_ratio,
        "p": p_ratio if found.order is None else found.order,
        "recorded": found.recorded,
        "undone": found.undone,
    }


def _adjust(tests: list[dict[str, Any]]) -> None:
    """Holm's step-down adjustment over the sites, for each mistake (Holm 1979)."""
    for mistake in MISTAKES:
        family = sorted((row for row in tests if row["mistake"] == mistake), key=lambda row: row["p"])
        highest = 0.0
        for rank, row in enumerate(family):
            highest = max(highest, min(1.0, (len(family) - rank) * row["p"]))
            row["p_holm"] = highest


def _text(row: Mapping[str, Any]) -> str:
    mistake = MISTAKES[row["mistake"]]
    measure = "C-index" if row["task"] == "survival" else "AUROC"
    return (
        f"{row['site']}: {mistake.words}. Over its {row['patients']} held-out patients the {measure} within "
        f"the site is {row['recorded']:.2f} as recorded and {row['undone']:.2f} with that undone; "
        f"log-likelihood ratio {row['log_likelihood_ratio']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}], "
        f"p {row['p_holm']:.2g} after Holm over all sites. Before anything else, {mistake.ask}."
    )
