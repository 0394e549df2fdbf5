"""Which patient-to-gene edges a patient has."""

from __future__ import annotations

import torch
from torch import Tensor

from mmfed_common.patients import NodeTensors

AMPLIFICATION = 2.0
"""Least |copy number call| that links: GISTIC 2 is an amplification, -2 a deep deletion."""


def patient_gene_links(
    node: NodeTensors, standardised: Tensor, channels: tuple[str, ...], threshold: float
) -> Tensor:
    """Tell which genes each patient has an edge to.

    A measured gene is linked when its expression lies at least ``threshold`` deviations from the mean, when
    it is mutated, or when its copy number is at least 2 or at most -2. Methylation alone does not link.

    Parameters
    ----------
    node
        Gene values in the contract's units and their presence, ``(patients, genes, channels)``.
    standardised
        The same values as standardised by the study, ``(patients, genes, channels)``.
    channels
        Layer names in channel order.
    threshold
        In deviations; 0 links every measured gene.

    Returns
    -------
    ``(patients, genes)`` bool.
    """
    if threshold == 0:
        return node.present.any(dim=-1)
    links = torch.zeros(node.present.shape[:2], dtype=torch.bool, device=node.present.device)
    for position, channel in enumerate(channels):
        present, value = node.present[..., position], node.values[..., position]
        if channel == "expression":
            links = links | (present & (standardised[..., position].abs() >= threshold))
        elif channel == "mutation":
            links = links | (present & (value > 0.5))
        elif channel == "cnv":
            links = links | (present & (value.abs() >= AMPLIFICATION))
    return links
