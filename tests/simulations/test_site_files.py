"""A site's patients on disk are the patients that were written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.simulations.small_federation import gene_study, small_sites

from mmfed_client.site import SiteData
from mmfed_common.errors import MmfedError
from mmfed_common.patients import NodeTensors, Outcomes
from mmfed_common.topology import REGULATES, EdgeList
from mmfed_simulations.run_folder import RunFolder
from mmfed_simulations.site_files import serialise_site, serialise_topology


def rich_site() -> SiteData:
    """A site with imaging neighbours, edges, pathways and folds."""
    (data,) = small_sites(gene_study(), (12,))
    tiles = NodeTensors(
        torch.rand(12, 4, 2),
        torch.rand(12, 4, 2) > 0.3,
        torch.randint(-1, 4, (12, 4, 3)),
    )
    topology = replace(
        data.topology,
        nodes={**data.topology.nodes, "imaging_feature": ("tile-0", "tile-1", "tile-2", "tile-3")},
        channels={**data.topology.channels, "imaging_feature": ("a", "b")},
        edges={**data.topology.edges, REGULATES: EdgeList.build(torch.tensor([0, 1]), torch.tensor([2, 0]))},
        pathways=("P1",),
        membership=EdgeList.build(torch.tensor([0, 2]), torch.tensor([0, 0])),
    )
    patients = replace(data.patients, nodes={**data.patients.nodes, "imaging_feature": tiles})
    return SiteData("Zürich: 1/2", patients, data.held_out, topology, tuple(range(12)))


def test_a_site_comes_back_whole(tmp_path: Path) -> None:
    data = rich_site()
    folder = RunFolder(tmp_path / "out")
    folder.begin(gene_study(), [data])
    back = RunFolder(tmp_path / "out").site(0)
    assert (back.name, back.folds) == (data.name, data.folds)
    assert back.patients.patient_ids == data.patients.patient_ids
    assert np.array_equal(back.held_out, data.held_out)
    assert set(back.patients.nodes) == set(data.patients.nodes)
    for name, node in data.patients.nodes.items():
        found = back.patients.nodes[name]
        assert torch.equal(found.values, node.values)
        assert torch.equal(found.present, node.present)
        assert (found.neighbours is None) == (node.neighbours is None)
        assert node.neighbours is None or torch.equal(node.neighbours, found.neighbours)  # type: ignore[arg-type]
    for name in Outcomes.__dataclass_fields__:
        assert torch.equal(getattr(back.patients.outcomes, name), getattr(data.patients.outcomes, name))
    assert serialise_topology(back.topology) == serialise_topology(data.topology)
    assert serialise_site(back) == serialise_site(data)


def test_sites_that_share_a_topology_share_its_file(tmp_path: Path) -> None:
    study = gene_study()
    folder = RunFolder(tmp_path / "out")
    folder.begin(study, small_sites(study, (10, 11, 12)))
    assert len(list((tmp_path / "out" / "topologies").iterdir())) == 1
    assert folder.site(0).topology is folder.site(2).topology
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_one_changed_value_changes_the_digest() -> None:
    data = rich_site()
    before = serialise_site(data)
    data.patients.nodes["gene"].values[3, 1, 0] += 1e-3
    assert serialise_site(data) != before


def test_tensors_that_share_memory_are_written_apart() -> None:
    data = rich_site()
    gene = data.patients.nodes["gene"]
    shared = replace(
        data.patients,
        nodes={"gene": gene, "protein": NodeTensors(gene.values, gene.present)},
    )
    assert serialise_site(replace(data, patients=shared))


@pytest.mark.parametrize("keep", [0, 40, 300])
def test_a_damaged_file_has_its_code(keep: int, tmp_path: Path) -> None:
    study = gene_study()
    folder = RunFolder(tmp_path / "out")
    folder.begin(study, small_sites(study))
    path = tmp_path / "out" / "sites" / "1" / "site.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(MmfedError) as caught:
        folder.site(1)
    assert caught.value.code == "MMF-509"
    with pytest.raises(MmfedError):
        folder.site(7)
