"""What is hidden of the patients' modalities: in training from a share of them, at test from all.

What is hidden looks exactly as if it had never been measured: values 0, nothing present, no neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch

from mmfed_client.cohort import Cohort
from mmfed_client.site import SiteData
from mmfed_common.heldout import hash_fraction
from mmfed_common.model.clinical import CLINICAL
from mmfed_common.patients import NodeTensors, PatientTensors
from mmfed_common.study import Study

Modalities = tuple[str, ...]
"""Some node types of a study, in the order of its contract."""


@dataclass(frozen=True)
class Hidden:
    """What is hidden when an arm is trained and scored.

    Attributes
    ----------
    share
        Each modality but the clinical one is taken from about this share of the training patients.
    shown
        Sets of modalities: the held-out patients are predicted once with each, all others hidden. Empty:
        once, with everything they have.
    draw
        Another number takes them from other patients.
    """

    share: float = 0.0
    shown: tuple[Modalities, ...] = ()
    draw: int = 0

    @property
    def file_part(self) -> str:
        """Tells apart the files of trainings that differ in this alone; empty where nothing is hidden."""
        if self == NOTHING:
            return ""
        text = f"{self.share:.10g}|{self.draw}|{'|'.join(joined(one) for one in self.shown)}"
        return f"-hidden{hashlib.sha256(text.encode()).hexdigest()[:10]}"


NOTHING = Hidden()


def joined(modalities: Modalities) -> str:
    """Name of a set of modalities, e.g. ``"clinical_feature+gene"``."""
    return "+".join(modalities)


def subsets(names: Modalities) -> tuple[Modalities, ...]:
    """Every non-empty set of some modalities, the largest first."""
    return tuple(one for size in range(len(names), 0, -1) for one in combinations(names, size))


def without(patients: PatientTensors, gone: Mapping[str, npt.NDArray[np.bool_]]) -> PatientTensors:
    """Take modalities from patients, as if they had never been measured.

    Parameters
    ----------
    gone
        Node type → ``(patients,)`` who loses it.
    """
    nodes = dict(patients.nodes)
    for name, marks in gone.items():
        node, keep = nodes[name], torch.from_numpy(~marks)[:, None, None]
        neighbours = None if node.neighbours is None else torch.where(keep, node.neighbours, -1)
        nodes[name] = NodeTensors(torch.where(keep, node.values, 0.0), node.present & keep, neighbours)
    return replace(patients, nodes=nodes)


def without_in_training(study: Study, site: str, part: Cohort, hidden: Hidden) -> PatientTensors:
    """Take each modality but the clinical one from a share of a site's training patients.

    Who loses what follows from the study's seed (plus ``draw``), the patient and the modality alone; who
    loses it at one share loses it at every greater one. Held-out patients keep what they have.
    """
    seed = study.study.seed + hidden.draw
    ids = part.patients.patient_ids
    training = ~study.held_out_rule.held_out(ids, site, part.folds)
    gone = {}
    for name in part.patients.nodes:
        if name != CLINICAL:
            drawn = np.array([hash_fraction(seed, i, f"missing {name}") for i in ids])
            gone[name] = training & (drawn < hidden.share)
    return without(part.patients, gone)


def showing(site: SiteData, shown: Sequence[str]) -> SiteData:
    """Hide all other modalities of a site's held-out patients; its training patients keep theirs."""
    gone = {name: site.held_out for name in site.patients.nodes if name not in shown}
    return replace(site, patients=without(site.patients, gone))
