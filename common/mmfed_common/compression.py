"""Compressed updates: what travels up is the change of the weights, in fewer bits.

Where a study asks for it, a site sends ``weights − sent`` instead of its weights: as ``float16``, as the
upper half of a ``float32`` (bfloat16), or as 8-bit steps of one size for each tensor. The server turns it
back into weights before anything looks at it, so that its guard and its strategies see what they always see.
Each array keeps its header of about 128 bytes, so that only arrays longer than that become much shorter.

With ``int8`` a site adds what rounding lost of its last update that the server took (error feedback: Seide et
al. 2014; Karimireddy et al. 2019), see :mod:`mmfed_client.training.feedback`. Rounding changes what noise is
already in: under differential privacy it is post-processing, and so is the feedback, which is a function of
earlier private updates and of what was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmfed_common.arrays import Shapes, UnexpectedArraysError, all_finite, blocks

Compression = Literal["none", "fp16", "bf16", "int8"]

STEPS = "+steps"
"""Name of the array with the size of a step for each tensor, in the order of their names. It sorts before the
name of every parameter, so that it is read first."""
MOST_STEPS = 127
"""An 8-bit number is −127 … 127 steps; −128 is never sent."""

WIRE_TYPES = {"fp16": torch.float16, "bf16": torch.int16, "int8": torch.int8}
"""How a change travels; bfloat16, which NumPy does not have, as its bits."""


def wire_shapes(shapes: Shapes, kind: Compression) -> Shapes:
    """What an update holds when it travels.

    Parameters
    ----------
    shapes
        The trained parameters.
    """
    if kind == "none":
        return shapes
    wire = {name: (shape, WIRE_TYPES[kind]) for name, (shape, _) in shapes.items()}
    return {STEPS: ((len(shapes),), torch.float32), **wire} if kind == "int8" else wire


def compressed(changes: Mapping[str, Tensor], kind: Compression) -> dict[str, Tensor]:
    """Round changes, each number to the nearest that can be sent.

    Parameters
    ----------
    changes
        float32.

    Returns
    -------
    Tensors of :func:`wire_shapes`. A change beyond the largest float16 becomes an infinity, which no gate
    lets out.
    """
    if kind == "int8":
        names = sorted(changes)
        steps = torch.tensor([_step(changes[name]) for name in names], dtype=torch.float32)
        sent = {name: _in_steps(changes[name], step) for name, step in zip(names, steps, strict=True)}
        return {STEPS: steps, **sent}
    if kind == "bf16":
        return {name: change.to(torch.bfloat16).view(torch.int16) for name, change in changes.items()}
    return {name: change.to(torch.float16) for name, change in changes.items()}


def restored(
    sent: Mapping[str, Tensor], weights: Mapping[str, Tensor], kind: Compression
) -> dict[str, Tensor]:
    """The weights that the server makes of what was sent; a site's own update is always sound.

    Parameters
    ----------
    sent
        From :func:`compressed`.
    weights
        The weights from which the change was reckoned.

    Raises
    ------
    UnexpectedArraysError
        When a weight would not be finite.
    """
    arrays = ((name, sent[name].numpy()) for name in sorted(sent))
    found = each_restored(arrays, weights, kind)
    return {name: torch.from_numpy(array.reshape(weights[name].shape)) for name, array in found}


def each_restored(
    arrays: Iterable[tuple[str, NDArray[Any]]], weights: Mapping[str, Tensor], kind: Compression
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Turn arrays that came, sorted by name, back into weights, one after another.

    The arithmetic is that of float32 numbers: the change, then its sum with the weight that was sent.

    Raises
    ------
    UnexpectedArraysError
        When a step is negative, a number is one that is never sent, or a weight would not be finite.
    """
    if kind == "none":
        yield from arrays
        return
    steps: Iterator[np.float32] = iter(())
    for name, array in arrays:
        if name == STEPS:
            if (array < 0).any():
                raise UnexpectedArraysError("the size of a step is negative", "values")
            steps = iter(array)
            continue
        start = weights[name].numpy()
        after = np.empty(start.shape, dtype=np.float32)
        step = next(steps) if kind == "int8" else np.float32(1.0)
        for part, old, new in zip(blocks(array), blocks(start), blocks(after), strict=True):
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
                np.add(_change(part, step, kind, name), old, out=new)
        if not all_finite(after):
            raise UnexpectedArraysError(f"array {name} makes a weight that is not finite", "values")
        yield name, after


def _change(part: NDArray[Any], step: np.float32, kind: Compression, name: str) -> NDArray[np.float32]:
    if kind == "int8":
        if (part < -MOST_STEPS).any():
            raise UnexpectedArraysError(f"array {name} holds a number of steps that is never sent", "values")
        return part.astype(np.float32) * step
    if kind == "bf16":
        bits = part.view(np.uint16).astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32)
    return part.astype(np.float32)


def _step(change: Tensor) -> float:
    """The size of a step: the largest change is 127 of them."""
    largest = float(change.abs().max()) if change.numel() else 0.0
    return float(np.float32(largest) / np.float32(MOST_STEPS))


def _in_steps(change: Tensor, step: Tensor) -> Tensor:
    if float(step) == 0.0:
        return torch.zeros_like(change, dtype=torch.int8)
    return (change / step).round().clamp(-MOST_STEPS, MOST_STEPS).to(torch.int8)
