"""The local optimiser: AdamW or SGD over the parameters that a stage trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch.nn import Parameter
from torch.optim import SGD, AdamW, Optimizer

from mmfed_common.study import Stage, Training


def build_optimiser(
    training: Training, stage: Stage, trained: Mapping[str, Parameter], shrinks: Callable[[str], bool]
) -> Optimizer:
    """Build the optimiser of one round; it starts without memory.

    Weight decay is decoupled with AdamW and an L2 penalty with SGD; ``shrinks`` tells by name which
    parameters it pulls on.
    """
    groups = [
        {"params": [p for n, p in trained.items() if shrinks(n)], "weight_decay": stage.weight_decay},
        {"params": [p for n, p in trained.items() if not shrinks(n)], "weight_decay": 0.0},
    ]
    kept = [group for group in groups if group["params"]]
    if training.optimiser == "sgd":
        return SGD(kept, lr=stage.learning_rate)
    return AdamW(kept, lr=stage.learning_rate)


def set_learning_rate(optimiser: Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
