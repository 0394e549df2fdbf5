"""The clinical block: a baseline for each task and a linear path of the clinical features, fitted first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmfed_common.contract import Contract
from mmfed_common.model.rows import rows

CLINICAL = "clinical_feature"


def output_sizes(contract: Contract) -> dict[str, int]:
    """How many numbers a block adds to each task: 1 for survival (the same in every bin), classes, labels."""
    sizes: dict[str, int] = {}
    if contract.survival is not None:
        sizes["survival"] = 1
    if contract.response is not None:
        sizes["response"] = len(contract.response.classes)
    if contract.toxicity is not None:
        sizes["toxicity"] = len(contract.toxicity.labels)
    return sizes


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Give a linear layer without bias whose weights start at zero: a gate through which a block enters."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


class ClinicalBlock(nn.Module):
    """Baseline of each task, linear clinical path, and the log-variances of the task weights.

    The linear path adds one number to the hazard logit of every bin: no time-varying head. A missing value
    contributes 0.

    Parameters
    ----------
    contract
        Tasks, bins and clinical features.
    linear
        Whether there is a linear path; otherwise only the baselines.
    """

    def __init__(self, contract: Contract, *, linear: bool) -> None:
        super().__init__()
        sizes = output_sizes(contract)
        features = len(contract.clinical_features())
        baselines = dict(sizes)
        if contract.survival is not None:
            baselines["survival"] = len(contract.survival.bins)
        self.baseline = nn.ModuleDict({task: nn.Embedding(1, size) for task, size in baselines.items()})
        for task, table in self.baseline.items():
            nn.init.zeros_(table.get_parameter("weight"))
            if task == "survival" and contract.survival is not None:
                start = torch.tensor([contract.survival.first_hazard_logits()])
                table.get_parameter("weight").data.copy_(start)
        paths = sizes if linear and features else {}
        self.linear = nn.ModuleDict({task: zero_linear(features, size) for task, size in paths.items()})
        self.log_variance: nn.Embedding | None = None
        if len(sizes) > 1:
            self.log_variance = nn.Embedding(1, len(sizes))
            nn.init.zeros_(self.log_variance.weight)

    def forward(self, features: Tensor | None, patients: int) -> tuple[dict[str, Tensor], Tensor | None]:
        """Give each task's logits, ``(patients, size)``, and the log-variances, ``(patients, tasks)``.

        Parameters
        ----------
        features
            ``(patients, features)`` standardised, 0 where missing; ``None`` where the study has none.
        patients
            How many patients there are.
        """
        logits = {}
        for task, table in self.baseline.items():
            logits[task] = _one_row(table, patients)
            if features is not None and task in self.linear:
                logits[task] = logits[task] + self.linear[task](features)
        weights = None if self.log_variance is None else _one_row(self.log_variance, patients)
        return logits, weights


def _one_row(table: nn.Module, patients: int) -> Tensor:
    if not isinstance(table, nn.Embedding):
        raise TypeError("a baseline is an embedding with one row")
    row = rows(table, patients)[:, 0]
    return row if row.shape[0] == patients else row.expand(patients, -1)


def clinical_values(standardised: Tensor) -> Tensor:
    """``(patients, features)`` from ``(patients, features, 1)``."""
    return torch.squeeze(standardised, 2)
