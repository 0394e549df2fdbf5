"""How much each patient adds to the gradient of a layer's parameters, from what went in and what came back.

For a linear layer with inputs ``a`` and gradients ``g`` at its output, a patient's gradient is ``gᵀ a`` over
the patient's positions. Its length is found without forming it where that is cheaper (Goodfellow,
arXiv:1510.01799; Li et al., ICLR 2022), and the clipped sum comes from the same ``a`` and ``g``, so that one
backward pass is enough (Bu et al., ICML 2023). Sums over patients are in float64, but for a few at a time:
what one patient adds is not lost in the rounding of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

GHOST_ADVANTAGE = 4
"""Lengths are found through products of positions when these are so many times fewer than the weights."""

STRETCH = 256
TOGETHER = 8
"""So many patients are summed in float32 before float64 takes over: of 64 of length C each, rounding then
moves the sum by less than ``8 · 64 · 2⁻²⁴ · C``, for which ``gradients.MARGIN`` leaves room."""


Mix = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class PatientParts:
    """What each patient adds to one parameter's gradient.

    Attributes
    ----------
    squares
        ``(patients,)`` float64, squared length.
    mix
        From ``(patients,)`` float64 weights, and ``(patients,)`` bool who is left out whatever his numbers
        (None: nobody), to the weighted sum, of the parameter's shape, float64.
    """

    squares: Tensor
    mix: Mix


Lazy = dict[str, Callable[[], PatientParts]]


def parts_of(layer: nn.Module, kind: str, inputs: Tensor, gradients: Tensor) -> PatientParts:
    """Apply the layer's rule to one of its parameters: ``weight`` or ``bias``."""
    return RULES[type(layer)](layer, inputs, gradients)[kind]()


def explicit(samples: Tensor) -> PatientParts:
    """From gradients that are there, ``(patients, *shape)``."""
    flat = samples.reshape(samples.shape[0], math.prod(samples.shape[1:]))

    def mix(weights: Tensor, left_out: Tensor | None) -> Tensor:
        return _mixed(blank(flat, left_out), weights).view(samples.shape[1:])

    return PatientParts(_squares(flat), mix)


def _linear(_: nn.Module, inputs: Tensor, gradients: Tensor) -> Lazy:
    a, g = positions(inputs), positions(gradients)
    return {"weight": lambda: _product(a, g), "bias": lambda: explicit(g.sum(dim=1))}


def _embedding(layer: nn.Module, index: Tensor, gradients: Tensor) -> Lazy:
    patients, (rows, width) = index.shape[0], layer.get_parameter("weight").shape
    places = index.reshape(patients, math.prod(index.shape[1:]))
    g = gradients.reshape(patients, places.shape[1], width)
    if places.shape[1] == rows and bool((places == torch.arange(rows, device=g.device)).all()):
        return {"weight": lambda: explicit(g)}
    place = places[:, :, None].expand_as(g)
    return {"weight": lambda: explicit(g.new_zeros(patients, rows, width).scatter_add(1, place, g))}


def _layer_norm(layer: nn.Module, inputs: Tensor, gradients: Tensor) -> Lazy:
    if not isinstance(layer, nn.LayerNorm):
        raise TypeError("this is the rule of nn.LayerNorm")
    g, shape, eps = positions(gradients), layer.normalized_shape, layer.eps

    def weight() -> PatientParts:
        # One patient at a time stays within the processor's cache.
        pairs = zip(positions(inputs), g, strict=True)
        rows = [(functional.layer_norm(a, shape, eps=eps) * own).sum(dim=0) for a, own in pairs]
        return explicit(torch.stack(rows) if rows else g.new_zeros(0, *shape))

    return {"weight": weight, "bias": lambda: explicit(g.sum(dim=1))}


RULES: Mapping[type[nn.Module], Callable[[nn.Module, Tensor, Tensor], Lazy]] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
}
"""Layers whose parameters may be trained; exactly these classes, as one derived from them may do more."""


def _product(a: Tensor, g: Tensor) -> PatientParts:
    """Gradients ``gᵀ a``: ``(patients, positions, in)``, ``(patients, positions, out)`` → ``(out, in)``."""
    places, narrow, wide = a.shape[1], g.shape[2], a.shape[2]
    if GHOST_ADVANTAGE * places**2 > narrow * wide:
        return explicit(torch.bmm(g.transpose(1, 2), a))
    a, g = a.double(), g.double()
    if places == 1:
        squares = _squares(a.flatten(1)) * _squares(g.flatten(1))
    else:
        pairs = torch.bmm(a, a.transpose(1, 2)) * torch.bmm(g, g.transpose(1, 2))
        squares = pairs.sum(dim=(1, 2)).clamp(min=0.0)

    def mix(weights: Tensor, left_out: Tensor | None) -> Tensor:
        scaled = (blank(g, left_out) * weights[:, None, None]).reshape(-1, narrow)
        return torch.mm(scaled.T, blank(a, left_out).reshape(-1, wide))

    return PatientParts(squares, mix)


def blank(tensor: Tensor, left_out: Tensor | None) -> Tensor:
    """Set to 0 what belongs to some patients."""
    if left_out is None:
        return tensor
    return tensor.masked_fill(left_out.view(-1, *[1] * (tensor.dim() - 1)), 0.0)


def positions(tensor: Tensor) -> Tensor:
    """Reshape ``(patients, …, width)`` → ``(patients, positions, width)``, also for no patients."""
    return tensor.reshape(tensor.shape[0], math.prod(tensor.shape[1:-1]), tensor.shape[-1])


def _squares(flat: Tensor) -> Tensor:
    """Squared lengths of rows: short stretches in float32, which is quick, and these together in float64."""
    patients, whole = flat.shape[0], flat.shape[1] // STRETCH * STRETCH
    lengths: Tensor = torch.linalg.vector_norm(flat[:, whole:], dim=1).double()
    squares = lengths * lengths
    if whole and patients:
        stretches = flat[:, :whole].reshape(patients, whole // STRETCH, STRETCH)
        each: Tensor = torch.linalg.vector_norm(stretches, dim=2).double()
        squares = squares + (each * each).sum(dim=1)
    return squares


def _mixed(flat: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of rows: few at a time in float32, which is quick, and these together in float64."""
    total = weights.new_zeros(flat.shape[1])
    light = weights.to(flat.dtype)
    for start in range(0, flat.shape[0], TOGETHER):
        few = slice(start, start + TOGETHER)
        total += torch.mv(flat[few].T, light[few])
    return total
