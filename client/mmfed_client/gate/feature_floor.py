"""Which sums of features may leave: those the study scales by, over enough patients."""

from __future__ import annotations

import torch
from torch import Tensor

from mmfed_common.contract import Contract
from mmfed_common.patients import PatientTensors
from mmfed_common.scaling import Moments, standardised
from mmfed_common.topology import Topology


def patients_measured(patients: PatientTensors) -> dict[str, Tensor]:
    """Count the patients in whom each feature was measured.

    Returns
    -------
    Node type → ``(nodes, channels)`` int64; imaging ``(1, channels)``: a patient counts once, whatever the
    number of tiles.
    """
    counts = {}
    for name, node in patients.nodes.items():
        present = node.present.any(dim=1, keepdim=True) if name == "imaging_feature" else node.present
        counts[name] = present.sum(dim=0).cpu()
    return counts


def keep_common_features(
    moments: Moments, measured: dict[str, Tensor], contract: Contract, topology: Topology, floor: int
) -> Moments:
    """Set to 0 all sums of a feature that is not scaled, or that fewer than ``floor`` patients have.

    The scaling that the server makes is the same without the first: it takes them for mean 0, deviation 1
    anyway. The total of a 0/1 column would tell how many patients have a rare value.
    """
    wanted = standardised(contract, topology)
    kept = {
        name: (wanted[name] & (measured[name] >= floor)).expand(count.shape)
        for name, count in moments.count.items()
    }

    def only_kept(sums: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: torch.where(kept[name], tensor, 0.0) for name, tensor in sums.items()}

    return Moments(
        only_kept(dict(moments.count)), only_kept(dict(moments.total)), only_kept(dict(moments.square))
    )
