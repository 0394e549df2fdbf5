"""A site's part of a sum over sites that is private as a whole: clipped gradients and a share of noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mmfed_client.privacy.gradients import PatientGradients
from mmfed_client.privacy.inputs import inputs_of
from mmfed_client.privacy.noise import LONGEST_DEVIATE, SecretStream, noised_units
from mmfed_client.privacy.round import begin, clipped_sum, sent
from mmfed_client.privacy.spender import Spender
from mmfed_client.training.local_site import LocalSite
from mmfed_client.training.reproducible import same_bits
from mmfed_common.errors import PrivacyError
from mmfed_common.masking.fixed_point import BITS
from mmfed_common.masking.shared_noise import LARGEST_EXTRA, MOST_PARAMETERS, RANGE, extra_delta
from mmfed_common.masking.stream import Vector
from mmfed_common.privacy import PrivacyPlan
from mmfed_common.scaling import Scaling
from mmfed_common.schedule import Place


@dataclass(frozen=True)
class NoisyShare:
    """What a site adds to the sum of a round.

    Attributes
    ----------
    changes
        ``(numbers,)`` the trained parameters end to end, sorted by name: the change that a step of gradient
        descent makes, times the site's patients, in steps of the round's ``Layout``.
    patients
        How many were trained on.
    """

    changes: Vector
    patients: int


def noisy_share(
    site: LocalSite,
    weights: Mapping[str, Tensor],
    scaling: Scaling,
    place: Place,
    spender: Spender,
    secret: bytes,
    attempt: bytes,
) -> NoisyShare:
    """Sum every training patient's clipped gradient, add this site's share of the noise, and pay before.

    There is no local step: what a site did to its own sum would not be undone in the sum over sites. The
    learning rate is in the size of the layout's steps.

    Parameters
    ----------
    spender
        Its plan says how many sites share the noise.
    attempt
        Names this attempt at the round, by chance that is the site's own. Another attempt has other noise and
        is paid anew: with the same noise in two sums their difference would show what it hides.

    Raises
    ------
    PrivacyError
        ``MMF-398`` when the share does not fit into masked numbers, and as
        :func:`~mmfed_client.privacy.round.train_private_round`.
    """
    study, plan = site.study, spender.plan
    model, trained = begin(site, weights, place, plan)
    refuse_inexact(plan, sum(parameter.numel() for parameter in trained.values()), site.name)
    inputs = inputs_of(
        secret, site, plan, sent(weights, scaling), "shared", place.round, plan.honest_sites, attempt
    )
    spender.before_step(place.round, 0, inputs)
    stream = SecretStream.of(secret, study.hash, site.name, "share", place.round, inputs)
    unit = study.privacy.clipping * RANGE * 2.0**-BITS
    with PatientGradients(model, tuple(trained)).listening() as gradients, same_bits(stream.seed()):
        total = clipped_sum(site, model, gradients, site.fit, scaling, place)
    spread = plan.site_sigma * 2.0**BITS / RANGE
    changes = -noised_units(total, unit, spread, stream)
    spender.reconcile(place.round, inputs, 1)
    return NoisyShare(changes, len(site.fit))


def refuse_inexact(plan: PrivacyPlan, parameters: int, where: str) -> None:
    """Refuse before anything is paid what could not be added exactly.

    Raises
    ------
    PrivacyError
        ``MMF-398`` when rounding to whole numbers could lengthen a patient's part by more than clipping
        leaves room for, the noise could be cut off, or it is so far from an ideal one that δ would grow.
    """
    if parameters > MOST_PARAMETERS:
        raise PrivacyError("MMF-398", f"{parameters} numbers move, at most {MOST_PARAMETERS}", where)
    if LONGEST_DEVIATE * plan.site_sigma > (RANGE - 1.0) * plan.patients:
        what = (
            f"noise of {plan.site_sigma:.3g} times `clipping` may be larger than all that masked numbers "
            f"of {plan.patients} patients hold"
        )
        raise PrivacyError("MMF-398", what, where)
    extra = extra_delta(plan.epsilon, plan.total, parameters, plan.honest_sites)
    if extra > LARGEST_EXTRA * plan.delta:
        what = f"the noise's distance from an ideal one would add {extra:.2g} to δ = {plan.delta:g}"
        raise PrivacyError("MMF-398", what, where)
