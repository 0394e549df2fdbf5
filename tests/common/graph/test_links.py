"""Patient-to-gene edges follow the stated rule."""

from __future__ import annotations

import pytest
import torch

from mmfed_common.graph import patient_gene_links
from mmfed_common.patients import NodeTensors

CHANNELS = ("expression", "methylation", "cnv", "mutation")
NOTHING = (0.0, 0.0, 0.0, 0.0)


def links(
    values: tuple[float, ...], present: tuple[bool, ...], standardised: float, threshold: float
) -> bool:
    node = NodeTensors(torch.tensor([[values]]), torch.tensor([[present]]))
    z = torch.tensor([[[standardised, 9.0, 9.0, 9.0]]])
    return bool(patient_gene_links(node, z, CHANNELS, threshold).item())


@pytest.mark.parametrize(
    ("values", "standardised", "linked"),
    [
        (NOTHING, 0.99, False),
        (NOTHING, 1.0, True),
        (NOTHING, -1.0, True),
        ((5.0, 0.0, 0.0, 0.0), 0.5, False),
        ((0.0, 8.0, 0.0, 0.0), 0.5, False),
        ((0.0, 0.0, 1.0, 0.0), 0.5, False),
        ((0.0, 0.0, 2.0, 0.0), 0.5, True),
        ((0.0, 0.0, -2.0, 0.0), 0.5, True),
        ((0.0, 0.0, 0.0, 1.0), 0.5, True),
    ],
)
def test_the_rule_of_the_contract(values: tuple[float, ...], standardised: float, linked: bool) -> None:
    assert links(values, (True,) * 4, standardised, 1.0) is linked
    assert links(values, (False,) * 4, standardised, 1.0) is False, "an absent value links nothing"


def test_threshold_zero_links_every_measured_gene() -> None:
    assert links(NOTHING, (False, True, False, False), 0.0, 0.0)
    assert not links(NOTHING, (False,) * 4, 0.0, 0.0)


def test_patients_and_genes_keep_their_places() -> None:
    values = torch.zeros(2, 3, 1)
    values[1, 2, 0] = 1.0
    node = NodeTensors(values, torch.ones(2, 3, 1, dtype=torch.bool))
    result = patient_gene_links(node, values, ("mutation",), 1.0)
    assert result.nonzero().tolist() == [[1, 2]]
