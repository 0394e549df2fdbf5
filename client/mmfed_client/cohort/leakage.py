"""Features that are an outcome, or follow from one.

Two rules. A feature read from the very column that holds an outcome. A feature that orders the patients as an
outcome does: absolute Spearman correlation with follow-up of at least 0.99, or an area under the ROC curve of
at least 0.99 (or at most 0.01) for the event, a response class or a toxicity, over the patients who have it.
For demographic and clinical columns, whether the cell is filled is asked too: ``cause_of_death`` is filled
only for the dead. The least numbers of patients make a chance finding among 20,000 genes unlikely
(15 against 15: about one in a thousand cohorts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmfed_client.cohort.description import CohortDescription
from mmfed_client.cohort.outcomes import OutcomeArrays, outcome_columns
from mmfed_common.errors import Fault
from mmfed_common.patients import PatientTensors
from mmfed_common.topology import Topology

Float = npt.NDArray[np.float64]

CORRELATION = 0.99
SCREEN = 0.9
LEAST_FOLLOWED = 20
LEAST_CLASS = {"clinical_feature": 10}
LEAST_CLASS_ELSEWHERE = 15
SAMPLE = 512
NODES_A_BLOCK = 512


@dataclass(frozen=True)
class Target:
    """One outcome to compare features with: its name, its values and for whom they are known."""

    name: str
    values: Float
    known: npt.NDArray[np.bool_]
    binary: bool


def targets(outcomes: OutcomeArrays, classes: Sequence[str], labels: Sequence[str]) -> list[Target]:
    """List the outcomes as numbers: follow-up, event, each response class, each toxicity."""
    known = outcomes.survival_known
    found = [
        Target("survival time", outcomes.time_days, known, False),
        Target("survival event", outcomes.event, known, True),
    ]
    for index, name in enumerate(classes):
        is_class = (outcomes.response == index).astype(np.float64)
        found.append(Target(f"response {name}", is_class, outcomes.response >= 0, True))
    for index, name in enumerate(labels):
        values, label_known = outcomes.toxicity[:, index], outcomes.toxicity_known[:, index]
        found.append(Target(f"toxicity {name}", values, label_known, True))
    return found


def leaked_columns(description: CohortDescription, wanted: Sequence[str]) -> list[Fault]:
    """Find clinical features (contract names) that are read from the column of an outcome."""
    files = {name: table.file for name, table in description.tables.items()}
    outcomes = {(files[t], c): what for what, (t, c) in outcome_columns(description).items()}
    faults = []
    for name, (table, column) in description.feature_sources().items():
        outcome = outcomes.get((files[table], column))
        if outcome is not None and name in wanted:
            what = f"the feature {name!r} is read from the column of the {outcome}"
            faults.append(Fault("MMF-211", what, table, None, column))
    return faults


def leaked_measurements(description: CohortDescription, panels: Mapping[str, Sequence[str]]) -> list[Fault]:
    """Find measurements, by section of cohort.toml → names wanted, that are an outcome's column."""
    files = {name: table.file for name, table in description.tables.items()}
    outcomes = {(files[t], c): what for what, (t, c) in outcome_columns(description).items()}
    sections = {f"gene.{name}": section for name, section in description.gene.layers.items()}
    for name in ("protein", "metabolite", "imaging"):
        section = getattr(description, name)
        if section is not None:
            sections[name] = section
    faults = []
    for name, section in sections.items():
        for wanted in panels.get(name.partition(".")[0], ()):
            column = section.columns.get(wanted, wanted)
            outcome = outcomes.get((files[section.table], column))
            if outcome is not None:
                what = f"[{name}] uses the column of the {outcome} as a feature"
                faults.append(Fault("MMF-211", what, section.table, None, column))
    return faults


def leaked_values(patients: PatientTensors, topology: Topology, outcomes: Sequence[Target]) -> list[Fault]:
    """Find features whose values follow an outcome, in every modality (imaging: the first tile)."""
    faults = []
    for node_type, node in patients.nodes.items():
        clinical = node_type == "clinical_feature"
        least = LEAST_CLASS.get(node_type, LEAST_CLASS_ELSEWHERE)
        imaging = node_type == "imaging_feature"
        names = topology.channels[node_type] if imaging else topology.nodes[node_type]
        values, present = node.values.numpy(), node.present.numpy()
        if imaging:
            values, present = values[:, 0, :, None], present[:, 0, :, None]
        for target in outcomes:
            rows = _rows(target, None if clinical else SAMPLE)
            for channel in range(values.shape[2]):
                where = topology.channels[node_type][channel] if node_type == "gene" else node_type
                for start in range(0, values.shape[1], NODES_A_BLOCK):
                    part = np.s_[start : start + NODES_A_BLOCK]
                    frame = np.where(present[rows, part, channel], values[rows, part, channel], np.nan)
                    leaks = followers(frame.astype(np.float64), target.values[rows], target.binary, least)
                    if clinical and target.binary:
                        filled = present[rows, part, channel].astype(np.float64)
                        leaks |= followers(filled, target.values[rows], True, least)
                    for index in np.flatnonzero(leaks):
                        name = names[start + int(index)]
                        what = f"{name!r} orders the patients as the {target.name} does"
                        faults.append(Fault("MMF-211", what, where, None, name))
    return faults


def _rows(target: Target, most: int | None) -> npt.NDArray[np.int64]:
    """Patients whose outcome is known; of many, evenly spaced ones in the order of the outcome."""
    rows = np.flatnonzero(target.known)
    if most is None or rows.size <= most:
        return rows
    ordered = rows[np.argsort(target.values[rows], kind="stable")]
    return np.sort(ordered[np.linspace(0, rows.size - 1, most).astype(np.int64)])


def followers(features: Float, outcome: Float, binary: bool, least: int) -> npt.NDArray[np.bool_]:
    """Tell for each feature whether it orders the patients as the outcome does.

    Parameters
    ----------
    features
        ``(patients, features)``, NaN where absent.
    outcome
        ``(patients,)``.
    least
        Least number of patients in each class of a binary outcome.
    """
    if not features.size:
        return np.zeros(features.shape[1], dtype=np.bool_)
    ranks = pd.DataFrame(features).rank().to_numpy(dtype=np.float64)
    have = ~np.isnan(ranks)
    if binary:
        positive = have & (outcome == 1)[:, None]
        n1 = positive.sum(axis=0)
        n0 = have.sum(axis=0) - n1
        sums = np.where(positive, ranks, 0.0).sum(axis=0)
        area = (sums - n1 * (n1 + 1) / 2) / np.maximum(n1 * n0, 1)
        leaks = (np.minimum(n1, n0) >= least) & (np.abs(area - 0.5) >= CORRELATION - 0.5)
        return np.asarray(leaks, dtype=np.bool_)
    found = np.zeros(features.shape[1], dtype=np.bool_)
    screened = np.abs(_correlation(ranks, _ranked(outcome), have)) >= SCREEN
    for column in np.flatnonzero(screened & (have.sum(axis=0) >= LEAST_FOLLOWED)):
        rows = have[:, column]
        times = _ranked(outcome[rows])
        exact = _correlation(ranks[rows][:, [column]], times, have[rows][:, [column]])
        found[column] = abs(float(exact[0])) >= CORRELATION
    return found


def _ranked(outcome: Float) -> Float:
    return pd.DataFrame(outcome[:, None]).rank().to_numpy(dtype=np.float64)


def _correlation(a: Float, b: Float, have: npt.NDArray[np.bool_]) -> Float:
    """Pearson correlation of each column of ``a`` with ``b`` over the rows that it has; 0 where constant."""
    count = np.maximum(have.sum(axis=0), 1)
    a, b = np.where(have, a, 0.0), np.where(have, b, 0.0)
    a = np.where(have, a - a.sum(axis=0) / count, 0.0)
    b = np.where(have, b - b.sum(axis=0) / count, 0.0)
    scale = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    return np.asarray((a * b).sum(axis=0) / np.where(scale > 0, scale, np.inf))
