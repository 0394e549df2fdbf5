"""From a gradient back to patients: closed form for linear paths, then gradient matching.

A linear layer that is fed a patient's features beside a baseline shows them: weight gradient over baseline
gradient (Phong et al., 2018). Gradient matching imagines patients and moves them until their gradient points
where the observed one does (Zhu et al., 2019; cosine distance after Geiping et al., 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mmfed_client.training import LocalSite
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_simulations.attacks.single_update import Gradient, SingleUpdate, cosine

Values = Mapping[str, Tensor]
"""Node type → ``(patients, nodes, channels)`` standardised values."""
LEARNING_RATE = 0.1
PRIOR = 1e-4
"""Pull towards the mean patient: what the gradient says nothing about stays there."""


def closed_form(gradient: Gradient) -> Tensor | None:
    """Clinical features, ``(features,)`` standardised: exact where one patient made the gradient.

    None where the update holds no linear clinical path.
    """
    weights, baselines = [], []
    for name, weight in gradient.items():
        if not name.startswith("clinical.linear."):
            continue
        task = name.split(".")[2]
        baseline = gradient[f"clinical.baseline.{task}.weight"][0]
        # The survival path adds one number to every bin, so its slope is the sum of the bins'.
        baselines.append(baseline.sum()[None] if weight.shape[0] == 1 else baseline)
        weights.append(weight)
    if not weights:
        return None
    slope, product = torch.cat(baselines), torch.cat(weights)
    return (slope @ product) / (slope @ slope).clamp(min=1e-20)


def match_gradient(
    update: SingleUpdate,
    site: LocalSite,
    scaling: Scaling,
    observed: Gradient,
    outcomes: Outcomes,
    *,
    iterations: int,
    draw: torch.Generator,
) -> dict[str, Tensor]:
    """Imagine patients whose gradient is like the observed one.

    The attacker is given the outcomes, which is more than the server knows.

    Parameters
    ----------
    site
        For its model and the shapes of its patients.
    outcomes
        Of the patients to reconstruct; says how many there are.

    Returns
    -------
    dict
        Node type → ``(patients, nodes, channels)`` standardised values; NaN where the gradient does not
        depend on a value, so that it says nothing about it.
    """
    count = len(outcomes.event)
    like = site.patients.nodes
    free = {
        name: (0.1 * torch.randn((count, *node.values.shape[1:]), generator=draw)).requires_grad_()
        for name, node in like.items()
    }
    start = closed_form(observed)
    if start is not None and "clinical_feature" in free:
        with torch.no_grad():
            free["clinical_feature"] += start.clamp(-5, 5)[None, :, None]
    optimiser = torch.optim.Adam(list(free.values()), lr=LEARNING_RATE, weight_decay=PRIOR)
    felt = {name: torch.zeros_like(value) for name, value in free.items()}
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(iterations, 1))
    for _ in range(iterations):
        optimiser.zero_grad(set_to_none=True)
        patients = imagined(free, like, scaling, outcomes)
        gradient = update.model_gradient(site, patients, scaling, twice=True)
        distance = 1 - cosine(gradient, observed)
        found = torch.autograd.grad(distance, list(free.values()), allow_unused=True)
        for (name, value), one in zip(free.items(), found, strict=True):
            value.grad = one
            if one is not None:
                felt[name] += one.abs()
        optimiser.step()
        decay.step()
    return {name: torch.where(felt[name] > 0, value.detach(), torch.nan) for name, value in free.items()}


def imagined(
    values: Values, like: Mapping[str, NodeTensors], scaling: Scaling, outcomes: Outcomes
) -> PatientTensors:
    """Patients with these standardised values, everything measured."""
    nodes = {}
    for name, value in values.items():
        raw = value * scaling.deviation[name] + scaling.mean[name]
        neighbours = like[name].neighbours
        if neighbours is not None:
            neighbours = torch.full((len(value), *neighbours.shape[1:]), -1)
        nodes[name] = replace(
            like[name], values=raw, present=torch.ones_like(raw, dtype=torch.bool), neighbours=neighbours
        )
    return PatientTensors(tuple(f"imagined-{i}" for i in range(len(outcomes.event))), nodes, outcomes)
