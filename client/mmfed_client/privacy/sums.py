"""Sums of features with noise: the paid form of the moments that federated scaling needs.

Each standardised feature is clipped to its public bounds and brought to −1 … 1; a patient adds, for each,
1, the value and its square (of a slide or scan, the mean over its tiles), so a vector no longer than
√(3 · features), whatever he has. Gaussian noise on the sums of these hides each patient; what follows, back
to moments that belong to some numbers, looks at no patient any more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mmfed_client.privacy.gradients import MARGIN
from mmfed_client.privacy.inputs import inputs_of
from mmfed_client.privacy.noise import SecretStream, noised
from mmfed_client.privacy.spender import Spender
from mmfed_client.training.local_site import LocalSite
from mmfed_common.bounds import bounds_of
from mmfed_common.contract import Contract
from mmfed_common.errors import PrivacyError
from mmfed_common.patients import NodeTensors, PatientTensors
from mmfed_common.scaling import LEAST_DEVIATION, Moments, described, standardised
from mmfed_common.topology import Topology

IMAGING = "imaging_feature"


@dataclass(frozen=True)
class NoisySums:
    """Moments that may leave, and how many patients have each feature, as far as the noise lets one know.

    Attributes
    ----------
    moments
        Count, total and square of each feature; those that are not standardised are 0.
    measured
        Node type → ``(nodes, channels)`` int64.
    """

    moments: Moments
    measured: dict[str, Tensor]


@dataclass(frozen=True)
class StandardSums:
    """Sums of 1, value and square of each standardised feature, in units of half a range; private.

    Attributes
    ----------
    flat
        ``(numbers,)`` float64, node types end to end.
    sensitivity
        Length of the longest vector that one patient can add.
    """

    flat: Tensor
    sensitivity: float

    def with_noise(self, sigma: float, stream: SecretStream) -> Tensor:
        """Add noise of deviation ``sigma · sensitivity`` to each number."""
        return noised(self.flat, self.sensitivity, sigma, stream)


def standard_sums(patients: PatientTensors, contract: Contract, topology: Topology) -> StandardSums:
    """Sum over patients what noise is then added to."""
    wanted = standardised(contract, topology)
    parts = [
        _sums(patients.nodes[name], mask, *_ranges(name, contract, topology), by_tile=name == IMAGING)
        for name, mask in wanted.items()
    ]
    features = sum(int(mask.sum()) for mask in wanted.values())
    longest = math.sqrt(max(3 * features, 1)) * (1.0 + MARGIN)
    return StandardSums(torch.cat([part.flatten() for part in parts]), longest)


def noisy_sums(
    patients: PatientTensors, contract: Contract, topology: Topology, sigma: float, stream: SecretStream
) -> NoisySums:
    """Sum over patients, add noise, and make moments of what comes of it.

    Parameters
    ----------
    patients
        Those who train, on any device.
    sigma
        Noise multiplier: deviation of the noise over the longest vector of one patient.
    """
    wanted = standardised(contract, topology)
    noisy = standard_sums(patients, contract, topology).with_noise(sigma, stream)
    moments: dict[str, dict[str, Tensor]] = {"count": {}, "total": {}, "square": {}}
    measured = {}
    shares = torch.split(noisy, [3 * int(mask.sum()) for mask in wanted.values()])
    for (name, mask), share in zip(wanted.items(), shares, strict=True):
        bounds = (bound[mask] for bound in _ranges(name, contract, topology))
        for statistic, values in zip(moments, _plausible(*share.view(3, -1), *bounds), strict=True):
            moments[statistic][name] = torch.zeros(mask.shape, dtype=torch.float64).masked_scatter(
                mask, values
            )
        measured[name] = moments["count"][name].floor().to(torch.int64)
    return NoisySums(Moments(**moments), measured)


def _sums(node: NodeTensors, wanted: Tensor, low: Tensor, high: Tensor, *, by_tile: bool) -> Tensor:
    """``(3, standardised features)`` sums of 1, value and square, in units of half a range."""
    values, present = node.values.cpu().double(), node.present.cpu()
    middle, half = (low + high) / 2, (high - low) / 2
    unit = torch.where(present, ((values - middle) / half).clamp(-1.0, 1.0), 0.0)
    each = [present.double(), unit, unit * unit]
    if by_tile:
        tiles = present.sum(dim=1, keepdim=True).clamp(min=1)
        each = [part.sum(dim=1, keepdim=True) / tiles for part in each]
    return torch.stack([part.sum(dim=0)[wanted] for part in each])


def _plausible(
    count: Tensor, first: Tensor, second: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Count, total and square that belong to numbers within the bounds, nearest to what the noise left."""
    middle, half = (low + high) / 2, (high - low) / 2
    count = count.clamp(min=1.0)
    mean = (first / count).clamp(-1.0, 1.0)
    least = (LEAST_DEVIATION / half).clamp(max=1.0) ** 2
    variance = torch.maximum(second / count - mean * mean, least).clamp(max=1.0)
    centre, spread = middle + half * mean, half * half * variance
    return count, count * centre, count * (spread + centre * centre)


def _ranges(name: str, contract: Contract, topology: Topology) -> tuple[Tensor, Tensor]:
    """Bounds of each feature, ``(nodes, channels)``; −1 and 1 where it is not standardised."""
    shape = standardised(contract, topology)[name].shape
    low, high = -torch.ones(shape, dtype=torch.float64), torch.ones(shape, dtype=torch.float64)
    for row, column, source in described(name, contract, topology):
        bounds = bounds_of(source)
        if bounds is not None:
            low[row, column], high[row, column] = bounds
    return low, high


def private_sums(site: LocalSite, spender: Spender, secret: bytes) -> NoisySums:
    """Pay for the noisy sums of a site's patients who train, and make them: asked again, the same ones.

    Raises
    ------
    PrivacyError
        ``MMF-305`` when the study does not pay for them; the spender's own when a budget does not allow it.
    """
    plan, study = spender.plan, site.study
    if plan.scaling is None:
        raise PrivacyError("MMF-305", "the study gives no `scaling_epsilon`", site.name)
    inputs = inputs_of(secret, site, plan, {}, "sums")
    spender.before_release(plan.scaling, inputs)
    stream = SecretStream.of(secret, study.hash, site.name, "sums", inputs)
    sigma = plan.scaling.noise_multiplier
    return noisy_sums(site.take(site.fit), study.contract, site.topology, sigma, stream)
