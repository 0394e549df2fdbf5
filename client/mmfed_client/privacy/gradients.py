"""The sum of every patient's gradient, each clipped: one forward and one backward pass.

Forward hooks keep what goes into each trained layer; the parameters themselves take no part in autograd, so
the backward pass ends at the outputs of the layers, and what comes back there gives each patient's gradient
by the layer's rule. The result is that of Opacus' hooks and of ``vmap``, which tests compare it with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmfed_client.privacy.layers import RULES, PatientParts, parts_of, positions
from mmfed_common.errors import PrivacyError

MARGIN = 2.0**-14
"""Gradients are clipped to ``clipping / (1 + MARGIN · parts)``: room for rounding in float32.

For each part of a sum: who is not drawn moves the others between the parts, and so all their rounding.
"""

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

    @property
    def flat(self) -> Tensor:
        """``(numbers,)``, all parameters end to end, on the CPU."""
        return torch.cat([tensor.flatten() for tensor in self.sums.values()]).cpu()


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

    def __post_init__(self) -> None:
        self.layers = layers_of(self.model, self.names)
        self._first: list[Tensor] = []
        self._calls: dict[str, int] = {}
        self._waiting: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._parts: dict[str, PatientParts] = {}
        self._patients = 0

    @property
    def width(self) -> int:
        """How many numbers the trained parameters have together."""
        return sum(self.model.get_parameter(name).numel() for name in self.names)

    @contextmanager
    def listening(self) -> Iterator[PatientGradients]:
        """Attach the hooks for a while; parameters need no gradient meanwhile and afterwards."""
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        modules = {layer: self.model.get_submodule(layer) for layer in self.layers}
        handles = [module.register_forward_hook(self._hook(layer)) for layer, module in modules.items()]
        tables = [module for module in modules.values() if isinstance(module, nn.Embedding)]
        for table in tables:
            table.forward = partial(_look_up, table)  # type: ignore[method-assign]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()
            for table in tables:
                del table.forward
            self._forget()

    def clipped_sum(self, losses: Callable[[], Tensor], clipping: float, parts: int = 1) -> ClippedSum:
        """Clip each patient's gradient to ``clipping`` and sum.

        A patient whose gradient is not finite adds nothing: that there is one must not show.

        Parameters
        ----------
        losses
            Computes ``(patients,)`` losses, or their sum, with the model.
        parts
            At most so many such sums make up the one that must not show anybody.
        """
        self._pass(losses)
        longest = clipping / (1.0 + MARGIN * parts)
        with torch.no_grad():
            squares = [part.squares for part in self._parts.values()]
            lengths = torch.stack(squares).sum(dim=0).sqrt() if squares else torch.zeros(self._patients)
            broken = ~lengths.isfinite()
            factor = (longest / lengths.clamp(min=SHORTEST)).clamp(max=1.0)
            left_out = broken if bool(broken.any()) else None
            factor = factor.double().masked_fill(broken, 0.0)
            sums = {name: self._mixed(name, factor, left_out) for name in self.names}
        self._forget()
        return ClippedSum(sums, lengths)

    def each(self, losses: Callable[[], Tensor]) -> dict[str, Tensor]:
        """Give every patient's gradient, ``(patients, *shape)`` float64 by name: for tests, it is large."""
        self._pass(losses)
        with torch.no_grad():
            alone = torch.eye(self._patients, dtype=torch.float64, device=_device(self.model))
            found = {}
            for name in self.names:
                rows = [self._mixed(name, weights, None) for weights in alone]
                shape = self.model.get_parameter(name).shape
                found[name] = torch.stack(rows) if rows else alone.new_zeros(0, *shape)
        self._forget()
        return found

    def _mixed(self, name: str, weights: Tensor, left_out: Tensor | None) -> Tensor:
        """Give the weighted sum over patients; 0 for a parameter that took no part."""
        if name not in self._parts:
            return weights.new_zeros(self.model.get_parameter(name).shape)
        return self._parts[name].mix(weights, left_out)

    def _pass(self, losses: Callable[[], Tensor]) -> None:
        """Run the model forward and backward; hooks take down the parts on the way."""
        self._forget()
        with torch.enable_grad():
            each = losses()
            self._patients = each.shape[0] if each.dim() else self._patients
            if self._first and each.requires_grad:
                torch.autograd.grad(each.sum(), self._first, allow_unused=True)
        for layer in list(self._waiting):  # some of whose outputs were not used
            self._conclude(layer)

    def _forget(self) -> None:
        for kept in (self._first, self._calls, self._waiting, self._parts):
            kept.clear()

    def _hook(self, layer: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def listen(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not output.requires_grad:
                self._first.append(output.requires_grad_(True))
            self._patients = inputs[0].shape[0]
            self._calls[layer] = self._calls.get(layer, 0) + 1
            seen = inputs[0].detach()
            output.register_hook(lambda gradient: self._take_down(layer, seen, gradient))

        return listen

    def _take_down(self, layer: str, inputs: Tensor, gradient: Tensor) -> None:
        """Keep what came back to a layer; its parts are made as soon as all has come: that saves memory."""
        self._waiting.setdefault(layer, []).append((inputs, gradient))
        self._calls[layer] -= 1
        if not self._calls[layer]:
            self._conclude(layer)

    def _conclude(self, layer: str) -> None:
        inputs, gradients = _one_call(self._waiting.pop(layer))
        module = self.model.get_submodule(layer)
        with torch.no_grad():
            for kind, name in self.layers[layer].items():
                self._parts[name] = parts_of(module, kind, inputs, gradients)


def _look_up(table: nn.Embedding, index: Tensor) -> Tensor:
    """Look rows up as the table does; where each patient asks for all of them, without making copies."""
    every = torch.arange(table.num_embeddings, device=index.device)
    if index.dim() == 2 and index.shape[1] == len(every) and bool((index == every).all()):
        return table.weight.detach().expand(index.shape[0], -1, -1)
    return functional.embedding(index, table.weight)


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


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
