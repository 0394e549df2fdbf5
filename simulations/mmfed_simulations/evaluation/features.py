"""Plain feature tables for the baselines, fitted on training patients only.

The baselines see the same columns as the network: encoded clinical features, and each modality's values.
What a patient lacks takes the training mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from mmfed_common.metrics.estimate import Floats
from mmfed_common.patients import NodeTensors, PatientTensors
from mmfed_common.topology import Topology

CLIP = 5.0
"""Standardised values of measurements are clipped to ± so many deviations before components are taken."""
LEAST_DEVIATION = 1e-6


def clinical_values(patients: PatientTensors) -> Floats:
    """``(patients, clinical features)``, missing as NaN."""
    if "clinical_feature" not in patients.nodes:
        return np.zeros((len(patients), 0))
    return _channel(patients.nodes["clinical_feature"], 0)


def modality_values(patients: PatientTensors, topology: Topology) -> dict[str, Floats]:
    """Modality, e.g. ``"gene.expression"`` or ``"protein"``, → ``(patients, features)``, missing as NaN.

    Imaging: the mean over a patient's tiles.
    """
    tables: dict[str, Floats] = {}
    for name, node in patients.nodes.items():
        if name == "clinical_feature":
            continue
        if name == "imaging_feature":
            tables["imaging"] = _mean_over_tiles(node)
            continue
        channels = topology.channels[name]
        for position, channel in enumerate(channels):
            label = f"{name}.{channel}" if len(channels) > 1 or name == "gene" else name
            tables[label] = _channel(node, position)
    return tables


def _channel(node: NodeTensors, position: int) -> Floats:
    values: Floats = node.values[:, :, position].double().numpy()
    return np.where(node.present[:, :, position].numpy(), values, np.nan)


def _mean_over_tiles(node: NodeTensors) -> Floats:
    present = node.present.double().numpy()
    count = present.sum(axis=1)
    total = (node.values.double().numpy() * present).sum(axis=1)
    return np.where(count > 0, total / np.where(count > 0, count, 1.0), np.nan)


@dataclass(frozen=True)
class Standardised:
    """Means and deviations of training patients; columns that do not vary among them are dropped."""

    keep: npt.NDArray[np.int64]
    mean: Floats
    deviation: Floats

    @staticmethod
    def fit(training: Floats) -> Standardised:
        """Learn from ``(training patients, features)`` with NaN where missing."""
        known = np.isfinite(training)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, training, 0.0).sum(axis=0) / count
        spread = np.sqrt(np.where(known, (training - mean) ** 2, 0.0).sum(axis=0) / count)
        keep = (known.sum(axis=0) >= 2) & (spread > LEAST_DEVIATION)
        return Standardised(np.flatnonzero(keep), mean[keep], spread[keep])

    def apply(self, values: Floats) -> Floats:
        """``(patients, kept features)``; a missing value becomes 0, the training mean."""
        scaled = (values[:, self.keep] - self.mean) / self.deviation
        return np.where(np.isfinite(scaled), scaled, 0.0)


@dataclass(frozen=True)
class Components:
    """The first principal components of one modality, each scaled to unit variance in training.

    A patient who lacks the modality gets 0 for each, the training mean.
    """

    columns: Standardised
    pca: PCA
    deviation: Floats

    @staticmethod
    def fit(training: Floats, most: int) -> Components | None:
        """Learn up to ``most`` components from the training patients who have the modality.

        Returns None when too few have it, or nothing in it varies.
        """
        measured = np.isfinite(training).any(axis=1)
        columns = Standardised.fit(training)
        size = min(most, int(measured.sum()) - 1, len(columns.mean))
        if size < 1:
            return None
        values = np.clip(columns.apply(training[measured]), -CLIP, CLIP)
        pca = PCA(n_components=size, svd_solver="full").fit(values)
        deviation = np.sqrt(np.maximum(pca.explained_variance_, LEAST_DEVIATION))
        return Components(columns, pca, deviation)

    def apply(self, values: Floats) -> Floats:
        """``(patients, components)``."""
        measured = np.isfinite(values).any(axis=1, keepdims=True)
        scores = self.pca.transform(np.clip(self.columns.apply(values), -CLIP, CLIP)) / self.deviation
        return np.where(measured, scores, 0.0)


@dataclass(frozen=True)
class FeatureTable:
    """Clinical features and components of some modalities, as learned from training patients."""

    clinical: Standardised
    components: Mapping[str, Components]
    topology: Topology

    @staticmethod
    def fit(
        training: PatientTensors, topology: Topology, modalities: tuple[str, ...], most: int
    ) -> FeatureTable:
        """Learn columns; ``modalities`` are keys of :func:`modality_values`, ``most`` components of each."""
        values = modality_values(training, topology) if modalities else {}
        components = {}
        for name in modalities:
            fitted = Components.fit(values[name], most)
            if fitted is not None:
                components[name] = fitted
        return FeatureTable(Standardised.fit(clinical_values(training)), components, topology)

    def apply(self, patients: PatientTensors) -> Floats:
        """``(patients, columns)``, standardised, nothing missing."""
        values = modality_values(patients, self.topology) if self.components else {}
        parts = [self.clinical.apply(clinical_values(patients))]
        parts += [fitted.apply(values[name]) for name, fitted in self.components.items()]
        return np.hstack(parts)
