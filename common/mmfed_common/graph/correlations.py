"""Correlation relations estimated from a site's own training patients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from mmfed_common.contract import Contract
from mmfed_common.patients import PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.topology import ASSOCIATED_WITH, CORRELATES_WITH, EdgeList, Topology

LEAST_PATIENTS = 10
"""A pair measured together in fewer patients gets no edge."""

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def with_site_correlations(
    topology: Topology, training: PatientTensors, scaling: Scaling, contract: Contract
) -> Topology:
    """Add the correlation edges of one site where the contract asks for them.

    With ``relations.source = "site"``: two clinical features are linked, in both directions, when their
    absolute Spearman correlation over the training patients is at least ``threshold``; a gene is linked to
    a clinical feature likewise by its expression, for each feature the ``most_genes`` strongest, equal ones
    by panel order. A pair needs ten patients in whom both were measured. Any other ``source`` gives the
    topology back unchanged.
    """
    rule = contract.relations
    if rule.source != "site" or "clinical_feature" not in training.nodes:
        return topology
    clinical, has_clinical = _column(training, scaling, "clinical_feature", 0)
    strength = _strength(clinical, has_clinical, clinical, has_clinical)
    np.fill_diagonal(strength, np.nan)
    edges = dict(topology.edges)
    edges[CORRELATES_WITH] = _edges(np.greater_equal(strength, rule.threshold))
    if "gene" in training.nodes and "expression" in topology.channels["gene"]:
        channel = topology.channels["gene"].index("expression")
        expression, has_expression = _column(training, scaling, "gene", channel)
        strength = _strength(expression, has_expression, clinical, has_clinical)
        rank = np.argsort(-np.nan_to_num(strength), axis=0, kind="stable")[: rule.most_genes]
        linked = np.zeros(strength.shape, dtype=np.bool_)
        np.put_along_axis(linked, rank, True, axis=0)
        edges[ASSOCIATED_WITH] = _edges(linked & np.greater_equal(strength, rule.threshold))
    return replace(topology, edges=edges)


def spearman(
    left: Floats, has_left: Mask, right: Floats, has_right: Mask, least: int = LEAST_PATIENTS
) -> Floats:
    """Rank correlation of each column of ``left`` with each of ``right``, ties by their mean rank.

    Parameters
    ----------
    left, right
        ``(patients, a)`` and ``(patients, b)``.
    has_left, has_right
        Where they were measured. Each pair of columns uses the patients who have both.
    least
        Least number of such patients.

    Returns
    -------
    ``(a, b)``, NaN where too few patients have both or a column does not vary among them.
    """
    result = np.full((left.shape[1], right.shape[1]), np.nan)
    # Columns measured in the same patients are ranked together: a whole assay usually is.
    patterns, group = np.unique(has_left, axis=1, return_inverse=True)
    for column in range(right.shape[1]):
        for pattern in range(patterns.shape[1]):
            both = patterns[:, pattern] & has_right[:, column]
            if both.sum() < max(least, 2):
                continue
            members = np.flatnonzero(group.reshape(-1) == pattern)
            a = _centred_ranks(left[np.ix_(both, members)])
            b = _centred_ranks(right[both][:, [column]])
            norm = np.sqrt((a * a).sum(axis=0) * (b * b).sum())
            covariance = (a * b).sum(axis=0)
            result[members, column] = np.divide(
                covariance, norm, out=np.full(members.size, np.nan), where=norm > 0
            )
    return result


def _strength(left: Floats, has_left: Mask, right: Floats, has_right: Mask) -> Floats:
    """Absolute correlation, rounded so that equal ones are equal in whatever order their sums were taken."""
    strength: Floats = np.abs(spearman(left, has_left, right, has_right)).round(12)
    return strength


def _centred_ranks(values: Floats) -> Floats:
    ranks = pd.DataFrame(values).rank().to_numpy(dtype=np.float64)
    centred: Floats = ranks - (values.shape[0] + 1) / 2
    return centred


def _column(patients: PatientTensors, scaling: Scaling, name: str, channel: int) -> tuple[Floats, Mask]:
    node = patients.nodes[name]
    values = scaling.apply(name, node)[..., channel].cpu().numpy().astype(np.float64)
    return values, node.present[..., channel].cpu().numpy()


def _edges(linked: Mask) -> EdgeList:
    source, target = np.nonzero(linked)
    return EdgeList.build(torch.from_numpy(source), torch.from_numpy(target))
