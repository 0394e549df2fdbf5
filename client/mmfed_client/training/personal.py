"""A site's own heads: the federated model, moved a little on the site's training patients.

What moves are the heads (see :mod:`mmfed_common.trainable`), pulled back towards the federated weights by
FedProx's term. How much is chosen inside the site's training patients, and may be nothing: the federated
weights stay unless other patients of the site than those that moved them are predicted better by more than
chance. The site's own weights never leave it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mmfed_client.site import SiteData
from mmfed_client.training.local import train_round
from mmfed_client.training.local_site import LocalSite
from mmfed_client.training.losses import each_loss
from mmfed_client.training.reproducible import same_bits
from mmfed_common.heldout import hash_fraction
from mmfed_common.scaling import Scaling
from mmfed_common.schedule import Place, trained_parameters
from mmfed_common.study import Level, Study

LEAST_GAIN = 1.0
"""Standard errors by which a pull must beat the federated weights on the inner folds."""
TASK_WEIGHTS = "log_variance"
"""The tasks' weights stay: moving them would lower the loss without predicting anything better."""


@dataclass(frozen=True)
class Trial:
    """One pull on the inner folds.

    Attributes
    ----------
    pull
        How many patients the federated weights weigh.
    gain
        By how much the mean loss of a patient fell; negative where it rose.
    standard_error
        Of the gain, over patients.
    """

    pull: float
    gain: float
    standard_error: float


@dataclass(frozen=True)
class Personalised:
    """The weights that a site ends with.

    Attributes
    ----------
    weights
        Every weight of the model, on the CPU.
    pull
        What was chosen; None: the federated weights were kept.
    trials
        What was tried on the inner folds; empty for a site that is too small to try.
    patients
        Training patients of the site.
    """

    weights: dict[str, Tensor]
    pull: float | None
    trials: tuple[Trial, ...]
    patients: int


def personalise(
    study: Study, data: SiteData, weights: Mapping[str, Tensor], scaling: Scaling | None
) -> Personalised:
    """Move the heads on a site's training patients, as far as its inner folds say.

    The site's patients took part in training ``weights``, those of the inner folds too. So the federated
    weights look a little better there than they are, and are kept a little too often; never too seldom.

    Parameters
    ----------
    study
        The study, with ``[personal]``.
    data
        The site's patients; who is held out never trains and chooses nothing.
    weights
        The federated weights, all of them.
    scaling
        The federated scaling; None where the study scales by site or by reference.

    Raises
    ------
    StudyError
        ``MMF-505`` when a held-out patient is about to be trained on.
    ModelError
        ``MMF-604`` when the loss or a weight becomes non-finite.
    """
    rule, changed = study.personal, personal_study(study)
    site = LocalSite(changed, data)
    kept = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
    if len(site.fit) < rule.minimum_patients:
        return Personalised(kept, None, (), len(site.fit))
    used = site.scaling(scaling)
    # What only pre-training needs is not in this model, and stays as it is.
    start = {name: tensor for name, tensor in kept.items() if name in site.shapes}
    losses = {pull: np.zeros(len(site.fit)) for pull in rule.pulls}
    before = _losses(site, start, used, site.fit)
    for part in inner_folds(study, site):
        apart = data.held_out.copy()
        apart[site.fit[part]] = True
        inner = LocalSite(changed, replace(data, held_out=apart))
        for pull in rule.pulls:
            moved = _moved(inner, start, used, pull)
            losses[pull][part] = _losses(inner, moved, used, site.fit[part])
    trials = tuple(_trial(pull, before - after) for pull, after in losses.items())
    best = max(trials, key=lambda trial: trial.gain)
    if not best.gain > LEAST_GAIN * best.standard_error:
        return Personalised(kept, None, trials, len(site.fit))
    moved = _moved(site, start, used, best.pull)
    return Personalised(kept | moved, best.pull, trials, len(site.fit))


def personal_study(study: Study) -> Study:
    """The study in which a site trains its heads: one round over all of its training patients, unsent.

    Nothing leaves, so nothing is noised, masked or compressed; all training patients are used.
    """
    rule, level = study.personal, study.training.stages[-1].level
    levels = get_args(Level)
    stage = {
        "level": level,
        "rounds": 1,
        "trains": levels[: levels.index(level) + 1],
        "learning_rate": rule.learning_rate,
    }
    return study.with_changes(
        training={
            "stages": [stage],
            "local_epochs": rule.passes,
            "optimiser": "adamw",
            "schedule": "cosine",
            "validation_fraction": 0.0,
            "patience": None,
        },
        aggregation={"secure": False, "compression": "none"},
        privacy={
            "mode": "none",
            "epsilon": None,
            "delta": None,
            "scaling_epsilon": None,
            "noise": "site",
            "trainable": rule.trainable,
        },
    )


def inner_folds(study: Study, site: LocalSite) -> list[npt.NDArray[np.int64]]:
    """Positions in ``site.fit`` of each inner fold: by hash of the patient id, of equal size."""
    ids = site.patients.patient_ids
    order = np.argsort([hash_fraction(study.study.seed, ids[i], "personal") for i in site.fit], kind="stable")
    count = min(study.personal.folds, len(order))
    return [np.sort(order[fold::count]) for fold in range(count)]


def _heads(site: LocalSite) -> tuple[str, ...]:
    """Names of the parameters that move, but for the tasks' weights."""
    study = site.study
    stage = study.training.stages[0]
    every = trained_parameters(site.shapes, site.model.block_of, stage, study.privacy, study.model.frozen)
    return tuple(name for name in every if TASK_WEIGHTS not in name.split("."))


def _moved(
    site: LocalSite, weights: Mapping[str, Tensor], scaling: Scaling, pull: float
) -> dict[str, Tensor]:
    """All weights after training the heads on the site's ``fit`` patients."""
    place = Place.of(site.study.training, 1)
    update = train_round(site, weights, scaling, place, pull / len(site.fit))
    heads = {name: update.trained[name] for name in _heads(site)}
    return {name: heads.get(name, tensor).detach().cpu().clone() for name, tensor in weights.items()}


def _losses(
    site: LocalSite, weights: Mapping[str, Tensor], scaling: Scaling, index: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    model = site.load(weights)
    with same_bits(site.study.study.seed):
        return each_loss(site, model, scaling, site.study.training.stages[-1].level, index)


def _trial(pull: float, gains: npt.NDArray[np.float64]) -> Trial:
    return Trial(pull, float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(len(gains))))
