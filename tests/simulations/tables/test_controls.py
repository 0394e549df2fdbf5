"""Shuffled knowledge: the same shape, other genes."""

from __future__ import annotations

import torch

from mmfed_common.graph import build_topology
from mmfed_common.knowledge import KnowledgePack, Pair
from mmfed_common.study import Study
from mmfed_common.topology import REGULATES, Topology
from mmfed_simulations.tables.controls import shuffled_genes

GENES = tuple(f"G{k:02d}" for k in range(40))
PATHWAYS = {f"P{k}": GENES[k * 5 : k * 5 + 9] for k in range(6)}
CONTRACT = {
    "gene": {"panel": GENES, "layers": {"expression": {}}},
    "survival": {"bins": [365.0, 730.0], "horizons": [365.0]},
}


def topology() -> Topology:
    pairs = [Pair(GENES[k], GENES[(k * 7 + 1) % 40], 1.0, "test") for k in range(30)]
    pack = KnowledgePack.assemble(GENES, relations={REGULATES: pairs}, pathways=PATHWAYS)
    stage = {"level": "clinical", "rounds": 1}
    study = Study.from_content(
        {"study": {"name": "x", "seed": 1}, "contract": CONTRACT, "training": {"stages": [stage]}}
    )
    return build_topology(study.contract, pack)


def test_sizes_and_degrees_stay_and_genes_do_not() -> None:
    before = topology()
    after = shuffled_genes(before, 1)
    assert after.nodes == before.nodes
    sizes = [torch.bincount(t.membership.target, minlength=6) for t in (before, after)]
    assert torch.equal(*sizes)
    for edges in ("membership", REGULATES):
        one, two = (t.membership if edges == "membership" else t.edges[REGULATES] for t in (before, after))
        assert len(one) == len(two)
        counts = [torch.bincount(e.source, minlength=40).sort().values for e in (one, two)]
        assert torch.equal(*counts)
        assert not torch.equal(one.source, two.source)


def test_the_same_seed_deals_the_same_and_another_otherwise() -> None:
    first, again, other = (shuffled_genes(topology(), seed) for seed in (1, 1, 2))
    assert torch.equal(first.membership.source, again.membership.source)
    assert not torch.equal(first.membership.source, other.membership.source)
