"""From a clipped sum to the gradients that the optimiser sees."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import Parameter

from mmfed_client.privacy.noise import SecretStream, noised


def set_noisy_gradients(
    trained: Mapping[str, Parameter],
    total: Tensor,
    clipping: float,
    sigma: float,
    expected: float,
    stream: SecretStream,
) -> None:
    """Add noise to a sum of clipped gradients, divide, and hand it to the parameters.

    Parameters
    ----------
    total
        All trained parameters end to end, in their order.
    expected
        How many patients a step draws on average: the number drawn would tell of them.
    """
    mean = noised(total, clipping, sigma, stream) / expected
    sizes = [parameter.numel() for parameter in trained.values()]
    for parameter, part in zip(trained.values(), torch.split(mean, sizes), strict=True):
        parameter.grad = part.view_as(parameter).to(parameter)


def add_pulls(
    trained: Mapping[str, Parameter],
    anchors: Mapping[str, Tensor],
    proximal_mu: float,
    sparsity: Mapping[str, float],
) -> None:
    """Add the gradients of what pulls on weights without looking at patients.

    Parameters
    ----------
    anchors, proximal_mu
        FedProx's ``proximal_mu / 2 · ‖w − anchor‖²``.
    sparsity
        Parameter's name → factor of ``Σ|w|``.
    """
    for name, parameter in trained.items():
        pull = proximal_mu * (parameter.detach() - anchors[name])
        if name in sparsity:
            pull = pull + sparsity[name] * parameter.detach().sign()
        parameter.grad = pull if parameter.grad is None else parameter.grad + pull
