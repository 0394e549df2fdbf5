"""The sum of every patient's gradient, each clipped: one forward and one backward pass.

Forward hooks keep what goes into each trained layer; the parameters themselves take no part in autograd, so
the backward pass ends at the outputs of the layers, and what comes back there gives each patient's gradient
by the layer's rule. The result is that of Opacus' hooks and of ``vmap``, which tests compare it with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmfed_client.privacy.layers import RULES, PatientParts, parts_of, positions
from mmfed_common.errors import PrivacyError

MARGIN = 2.0**-15
"""Gradients are clipped to ``clipping · (1 − MARGIN)``: room for rounding in float32 and to the lattice."""

SHORTEST = 1e-300
"""Stands for the length of a gradient of 0, which is not divided by."""

CHUNK = 64
"""Patients in one pass: bounds memory where a batch is large."""


@dataclass(frozen=True)
class ClippedSum:
    """A sum over patients.

    Attributes
    ----------
    sums
        Parameter's name → sum of the clipped gradients, float64.
    lengths
        ``(patients,)`` float64 length of each patient's gradient before clipping; private.
    """

    sums: dict[str, Tensor]
    lengths: Tensor


@dataclass
class _Call:
    """One call of a trained layer."""

    layer: str
    inputs: Tensor
    output: Tensor


@dataclass(frozen=True)
class _Pass:
    """What a forward and a backward pass left: layer → inputs and gradients at its output."""

    layers: dict[str, tuple[Tensor, Tensor]]
    patients: int


@dataclass
class PatientGradients:
    """Listens to the layers of a model that hold trained parameters.

    Parameters
    ----------
    model
        The patient is dimension 0 of whatever goes through its layers.
    names
        The trained parameters.
    """

    model: nn.Module
    names: tuple[str, ...]
    _calls: list[_Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layers = layers_of(self.model, self.names)

    @property
    def width(self) -> int:
        """How many numbers the trained parameters have together."""
        return sum(self.model.get_parameter(name).numel() for name in self.names)

    @contextmanager
    def listening(self) -> Iterator[PatientGradients]:
        """Attach the hooks for a while; parameters need no gradient meanwhile and afterwards."""
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        handles = [
            self.model.get_submodule(layer).register_forward_hook(self._hook(layer)) for layer in self.layers
        ]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()
            self._calls.clear()

    def clipped_sum(self, losses: Callable[[], Tensor], clipping: float) -> ClippedSum:
        """Clip each patient's gradient to ``clipping`` and sum.

        A patient whose gradient is not finite adds nothing: that there is one must not show.

        Parameters
        ----------
        losses
            Computes ``(patients,)`` losses, or their sum, with the model.
        """
        passed = self._pass(losses)
        with torch.no_grad():
            parts = self._parts(passed.layers)
            lengths = _lengths(parts, passed.patients)
            if not bool(lengths.isfinite().all()):
                parts = self._parts(_without(passed.layers, ~lengths.isfinite()))
                lengths = _lengths(parts, passed.patients)
            factor = (clipping * (1.0 - MARGIN) / lengths.clamp(min=SHORTEST)).clamp(max=1.0)
            return ClippedSum({name: self._total(name, parts[name], factor) for name in self.names}, lengths)

    def each(self, losses: Callable[[], Tensor]) -> dict[str, Tensor]:
        """Give every patient's gradient, ``(patients, *shape)`` float64 by name: for tests, it is large."""
        passed = self._pass(losses)
        with torch.no_grad():
            parts = self._parts(passed.layers)
            alone = torch.eye(passed.patients, dtype=torch.float64, device=_device(self.model))
            found = {}
            for name in self.names:
                rows = [self._total(name, parts[name], weights) for weights in alone]
                shape = self.model.get_parameter(name).shape
                found[name] = torch.stack(rows) if rows else alone.new_zeros(0, *shape)
            return found

    def _total(self, name: str, parts: list[PatientParts], weights: Tensor) -> Tensor:
        if not parts:
            return weights.new_zeros(self.model.get_parameter(name).shape)
        return torch.stack([part.weighted(weights) for part in parts]).sum(dim=0)

    def _pass(self, losses: Callable[[], Tensor]) -> _Pass:
        """Run the model forward and backward."""
        self._calls.clear()
        with torch.enable_grad():
            each = losses()
        calls, self._calls = self._calls, []
        layers: dict[str, tuple[Tensor, Tensor]] = {}
        if each.requires_grad:
            came_back = torch.autograd.grad(each.sum(), [call.output for call in calls], allow_unused=True)
            for layer in self.layers:
                used = [
                    (call.inputs, gradient)
                    for call, gradient in zip(calls, came_back, strict=True)
                    if call.layer == layer and gradient is not None
                ]
                if used:
                    layers[layer] = _one_call(used)
        patients = each.shape[0] if each.dim() else max((call.inputs.shape[0] for call in calls), default=0)
        return _Pass(layers, patients)

    def _parts(self, layers: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, list[PatientParts]]:
        found: dict[str, list[PatientParts]] = {name: [] for name in self.names}
        for layer, (inputs, gradients) in layers.items():
            module = self.model.get_submodule(layer)
            for kind, name in self.layers[layer].items():
                found[name].append(parts_of(module, kind, inputs, gradients))
        return found

    def _hook(self, layer: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def listen(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not output.requires_grad:
                output.requires_grad_(True)
            self._calls.append(_Call(layer, inputs[0].detach(), output))

        return listen


def layers_of(model: nn.Module, names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Which layers hold the trained parameters: layer → name within it → the parameter's name.

    Raises
    ------
    PrivacyError
        ``MMF-302`` for a layer that has no exact gradient per patient here, or a parameter that several
        layers share.
    """
    every = list(model.named_parameters(remove_duplicate=False))
    layers: dict[str, dict[str, str]] = {}
    for name in names:
        layer, _, kind = name.rpartition(".")
        module = model.get_submodule(layer)
        if type(module) not in RULES or not _is_plain(module):
            raise PrivacyError("MMF-302", f"{name} belongs to a layer of type {type(module).__name__}")
        if sum(parameter is model.get_parameter(name) for _, parameter in every) > 1:
            raise PrivacyError("MMF-302", f"{name} is shared between layers")
        layers.setdefault(layer, {})[kind] = name
    return layers


def _is_plain(module: nn.Module) -> bool:
    """Whether the layer does no more than its rule knows."""
    if isinstance(module, nn.Embedding):
        return module.padding_idx is None and module.max_norm is None and not module.scale_grad_by_freq
    return not isinstance(module, nn.LayerNorm) or len(module.normalized_shape) == 1


def _one_call(used: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Lay several calls of one layer end to end, as positions of the same patients."""
    if len(used) == 1:
        return used[0]
    inputs = [a if a.is_floating_point() else a.unsqueeze(-1) for a, _ in used]
    joined = torch.cat([positions(a) for a in inputs], dim=1)
    gradients = torch.cat([positions(g) for _, g in used], dim=1)
    return joined if joined.is_floating_point() else joined.squeeze(-1), gradients


def _without(
    layers: Mapping[str, tuple[Tensor, Tensor]], left_out: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """Set to 0 what some patients add."""

    def blank(tensor: Tensor) -> Tensor:
        return tensor.masked_fill(left_out.view(-1, *[1] * (tensor.dim() - 1)), 0.0)

    return {
        layer: (blank(inputs) if inputs.is_floating_point() else inputs, blank(gradients))
        for layer, (inputs, gradients) in layers.items()
    }


def _lengths(parts: Mapping[str, list[PatientParts]], patients: int) -> Tensor:
    squares = [part.squares for named in parts.values() for part in named]
    if not squares:
        return torch.zeros(patients, dtype=torch.float64)
    return torch.stack(squares).sum(dim=0).sqrt()


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
