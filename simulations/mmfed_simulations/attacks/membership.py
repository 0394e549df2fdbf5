"""Membership inference: was this patient among those that the model was trained on?

Two attacks: the likelihood-ratio test with shadow models, and the loss threshold (Yeom et al., 2018) as the
simple reference. Two targets: the released model, whose strangers are its held-out patients, and the study's
way of training, for which each shadow model is attacked in turn with the help of the others: many more pairs,
so narrower intervals, on models that saw half of the patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmfed_common.bundle import Bundle
from mmfed_common.errors import ModelError
from mmfed_common.metrics.estimate import Floats
from mmfed_simulations.attacks.defences import RELEASED, Defence
from mmfed_simulations.attacks.figures import AttackFigures, attack_figures
from mmfed_simulations.attacks.likelihood_ratio import confidence, likelihood_ratio
from mmfed_simulations.attacks.shadows import Measured, Patients, Training, halves, measure, train_all

Bools = npt.NDArray[np.bool_]
LEAST_SHADOWS = 8
Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class MembershipRow:
    """One defence, one target.

    Attributes
    ----------
    defence
        Which defence.
    target
        ``"model"``: the released one, or the same study trained with this defence. ``"training"``: each
        shadow model in turn.
    likelihood_ratio, loss_threshold
        Figures of the two attacks.
    loss_members, loss_others
        Mean loss over members and over others, all tasks together: how far the model is overfitted.
    """

    defence: Defence
    target: str
    likelihood_ratio: AttackFigures
    loss_threshold: AttackFigures
    loss_members: float
    loss_others: float


def attack_membership(
    bundle: Bundle,
    patients: Patients,
    defences: Sequence[Defence],
    kept: Path,
    *,
    shadows: int = 16,
    workers: int = 1,
    told: Told | None = None,
) -> list[MembershipRow]:
    """Attack a bundle, and the same study under each defence.

    Parameters
    ----------
    patients
        Those that the bundle was trained on and those that it held out.
    kept
        Folder in which finished shadow models' figures stay, so that the same call goes on.
    shadows
        How many; even.

    Raises
    ------
    ModelError
        ``MMF-622`` when the model has no members or no strangers among the patients, ``MMF-623`` when there
        are too few shadow models.
    """
    if shadows < LEAST_SHADOWS or shadows % 2:
        raise ModelError("MMF-623", f"{shadows} shadow models")
    seed = bundle.study.study.seed
    inside = halves(patients.sizes, shadows, seed)
    sites = patients.sites(bundle.study)
    released = measure(bundle.study, sites, bundle.state, bundle.scaling)
    _refuse_one_kind(released)
    largest = max(int((~site.held_out).sum()) for site in sites)
    rows: list[MembershipRow] = []
    for defence in defences:
        study = defence.applied(bundle.study, largest)
        trainings = [Training(study, row) for row in inside]
        own = [] if defence.name == RELEASED else [Training(study, None)]

        def say(done: int, total: int, label: str = defence.label) -> None:
            if told is not None:
                told(label, done, total)

        found = train_all(patients, [*trainings, *own], kept, workers, say)
        target = found[-1] if own else released
        rows += _rows(defence, target, found[:shadows], seed)
    return rows


def _rows(defence: Defence, target: Measured, shadows: Sequence[Measured], seed: int) -> list[MembershipRow]:
    said = confidence(np.stack([shadow.loss for shadow in shadows]))
    inside = np.stack([shadow.inside for shadow in shadows])
    one = likelihood_ratio(confidence(target.loss), said, inside)
    every = np.stack([_one_of_many(number, said, inside) for number in range(len(shadows))])
    return [
        _row(defence, "model", one[None], [target], seed),
        _row(defence, "training", every, shadows, seed),
    ]


def _one_of_many(number: int, said: Floats, inside: Bools) -> Floats:
    """Attack one shadow model with the others but its partner: every patient is in half of those."""
    others = np.arange(len(said)) // 2 != number // 2
    return likelihood_ratio(said[number], said[others], inside[others])


def _row(
    defence: Defence, target: str, ratio: Floats, models: Sequence[Measured], seed: int
) -> MembershipRow:
    inside = np.stack([model.inside for model in models])
    unclear = np.stack([model.unclear for model in models])
    loss = np.stack([_total(model.loss) for model in models])
    ratio, loss = np.where(unclear, np.nan, ratio), np.where(unclear, np.nan, loss)
    return MembershipRow(
        defence,
        target,
        attack_figures(ratio, inside, seed),
        attack_figures(-loss, inside, seed),
        float(np.nanmean(loss[inside])),
        float(np.nanmean(loss[~inside])),
    )


def _total(loss: Floats) -> Floats:
    """Sum over the tasks that are labelled; NaN where none is."""
    known = np.isfinite(loss)
    total: Floats = np.where(known, loss, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total, np.nan)


def _refuse_one_kind(released: Measured) -> None:
    known = ~released.unclear & np.isfinite(released.loss).any(axis=1)
    members, others = int((released.inside & known).sum()), int((~released.inside & known).sum())
    if not members or not others:
        raise ModelError("MMF-622", f"{members} members and {others} strangers with a known outcome")
