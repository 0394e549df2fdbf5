"""Which modalities a patient has, and modality dropout in training."""

from __future__ import annotations

import torch
from torch import Tensor


def drop_modalities(has: Tensor, rate: float, kept: Tensor) -> Tensor:
    """Drop whole modalities of patients at random, never a kept one and never a patient's last one.

    Draws from torch's global generator of the device, which the caller seeds.

    Parameters
    ----------
    has
        ``(patients, modalities)`` bool.
    rate
        Probability that a modality is dropped.
    kept
        ``(modalities,)`` bool, modalities that are never dropped.

    Returns
    -------
    Tensor
        ``(patients, modalities)`` bool: what is left of ``has``.
    """
    draw = torch.rand(has.shape, device=has.device)
    left = has & (kept | (draw >= rate))
    luckiest = torch.where(has, draw, -1.0).argmax(dim=1)
    last = torch.nn.functional.one_hot(luckiest, has.shape[1]).bool() & has
    return torch.where(left.any(dim=1, keepdim=True), left, last)
