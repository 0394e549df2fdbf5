"""The likelihood-ratio test of membership (LiRA, online form; Carlini et al., S&P 2022, arXiv:2112.03570).

A model's confidence in what is true of a patient is compared with two Gaussians: what models say that were
trained on the patient, and what models say that were not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmfed_common.metrics.estimate import Floats

Bools = npt.NDArray[np.bool_]
OWN_SPREAD_FROM = 32
"""With fewer shadow models of a kind, all patients share one deviation, as the paper does."""
LEAST_SPREAD = 1e-6
LEAST_LOSS = 1e-12


def confidence(loss: Floats) -> Floats:
    """Scale the negative log-likelihood of what is true, so that it is about Gaussian: ``log(p / (1 - p))``.

    NaN where the loss is NaN (not labelled).
    """
    bounded: Floats = np.maximum(loss, LEAST_LOSS)
    return -bounded - np.log(-np.expm1(-bounded))


def likelihood_ratio(target: Floats, shadows: Floats, inside: Bools) -> Floats:
    """Score each patient: log-likelihood as a member less that as a non-member.

    Parameters
    ----------
    target
        ``(patients, tasks)`` confidence of the model that is attacked; NaN where a task is not labelled.
    shadows
        ``(shadows, patients, tasks)`` confidence of the shadow models.
    inside
        ``(shadows, patients)`` whether a shadow model was trained on a patient.

    Returns
    -------
    (patients,)
        Sum over the tasks labelled; NaN where there is none, or no shadow model of one kind.
    """
    member = _log_density(target, shadows, inside)
    other = _log_density(target, shadows, ~inside)
    ratio = member - other
    known = np.isfinite(ratio)
    total: Floats = np.where(known, ratio, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total, np.nan)


def _log_density(target: Floats, shadows: Floats, chosen: Bools) -> Floats:
    """Gaussian log-density of the target's confidence among the chosen shadows', ``(patients, tasks)``."""
    weight = chosen[:, :, None] & np.isfinite(shadows)
    number = weight.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(weight, shadows, 0.0)
        centre = values.sum(axis=0) / number
        square = np.where(weight, (shadows - centre) ** 2, 0.0).sum(axis=0)
        if number.max(initial=0) >= OWN_SPREAD_FROM:
            variance = square / np.maximum(number - 1, 1)
        else:
            # One degree of freedom a patient and task goes to its own centre.
            variance = square.sum(axis=0) / np.maximum((number - 1).clip(min=0).sum(axis=0), 1)
        variance = np.maximum(variance, LEAST_SPREAD)
        density: Floats = -0.5 * (np.log(variance) + (target - centre) ** 2 / variance)
    return np.where(number > 0, density, np.nan)
