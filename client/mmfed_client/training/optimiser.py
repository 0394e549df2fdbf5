"""The local optimiser: AdamW or SGD over the parameters that a stage trains."""

from __future__ import annotations

from collections.abc import Mapping

from torch.nn import Parameter
from torch.optim import SGD, AdamW, Optimizer

from mmfed_common.study import Stage, Training

UNSHRUNK = frozenset({"baseline", "log_variance"})
"""Parts of parameter names: a baseline or a task weight has no reason to lie near zero."""


def shrinks(name: str, parameter: Parameter) -> bool:
    """Whether weight decay pulls on a parameter: on matrices, not biases, norms, baselines or task weights."""
    return parameter.ndim >= 2 and not UNSHRUNK & set(name.split("."))


def build_optimiser(training: Training, stage: Stage, trained: Mapping[str, Parameter]) -> Optimizer:
    """Build the optimiser of one round; it starts without memory.

    Weight decay is decoupled with AdamW and an L2 penalty with SGD; see :func:`shrinks` for what it pulls on.

    Parameters
    ----------
    training, stage
        Kind of optimiser, learning rate and weight decay.
    trained
        Name → parameter, of those that the stage trains.
    """
    shrunk = [parameter for name, parameter in trained.items() if shrinks(name, parameter)]
    free = [parameter for name, parameter in trained.items() if not shrinks(name, parameter)]
    groups = [
        {"params": shrunk, "weight_decay": stage.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    kept = [group for group in groups if group["params"]]
    if training.optimiser == "sgd":
        return SGD(kept, lr=stage.learning_rate)
    return AdamW(kept, lr=stage.learning_rate)


def set_learning_rate(optimiser: Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
