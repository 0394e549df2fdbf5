"""A small study with every modality, and random patients of it."""

from __future__ import annotations

import torch

from mmfed_common.contract import Contract
from mmfed_common.graph import build_topology
from mmfed_common.knowledge import KnowledgePack, Pair, Protein, SymbolTable
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.randomness import torch_generator
from mmfed_common.scaling import Scaling
from mmfed_common.topology import PROTEIN_INTERACTS, REGULATES, Topology

PACK = KnowledgePack.assemble(
    ["AKT1", "EGFR", "MYC", "TP53"],
    [Protein("Akt", ("AKT1",)), Protein("EGFR_pY1068", ("EGFR",)), Protein("p53", ("TP53",))],
    ["lactate", "citrate"],
    {
        REGULATES: [
            Pair("TP53", "MYC", -1, "TRRUST"),
            Pair("MYC", "TP53", 1, "TRRUST"),
            Pair("MYC", "EGFR", 0, "t"),
        ],
        PROTEIN_INTERACTS: [Pair("Akt", "p53", 0.9, "STRING"), Pair("p53", "Akt", 0.9, "STRING")],
        ("gene", "produces", "metabolite"): [Pair("MYC", "lactate", 1, "made up")],
    },
    {"APOPTOSIS": ["AKT1", "TP53", "MYC"], "GROWTH": ["EGFR", "MYC"]},
    SymbolTable.build(["AKT1", "EGFR", "MYC", "TP53"], [("ERBB", "EGFR"), ("PKB", "AKT1")]).aliases,
)

EVERYTHING = {
    "knowledge": {"file": "k.pack.gz", "sha256": PACK.sha256},
    "demographics": {"age": {"kind": "number"}},
    "clinical": {"stage": {"kind": "category", "values": ["I", "II", "III"]}},
    "gene": {"layers": {"mutation": {"standardise": False}, "expression": {}, "cnv": {"standardise": False}}},
    "protein": {},
    "metabolite": {},
    "imaging": {"features": ["area", "count"], "maximum_tiles": 4, "neighbours": 2},
    "survival": {"bins": [365, 2000]},
    "response": {},
    "toxicity": {"labels": ["neutropenia", "nausea"]},
}


def contract_of(**changes: object) -> Contract:
    """The contract with some sections replaced; ``None`` takes one out."""
    content = {**EVERYTHING, **changes}
    return Contract.model_validate({k: v for k, v in content.items() if v is not None})


def topology_of(contract: Contract) -> Topology:
    """The topology over the small pack."""
    return build_topology(contract, PACK)


def patients_of(
    contract: Contract, topology: Topology, count: int, seed: int = 0, tiles_have_places: bool = True
) -> PatientTensors:
    """Random patients: values, gaps, whole modalities and labels missing."""
    g = torch_generator(seed, "patients")
    nodes = {}
    for name in contract.node_types:
        shape = (count, len(topology.nodes[name]), len(topology.channels[name]))
        present = torch.rand(shape, generator=g) < 0.7
        present &= torch.rand((count, 1, 1), generator=g) < 0.8
        values = torch.randn(shape, generator=g) * 2 + 1
        for position, channel in enumerate(topology.channels[name]):
            if channel in ("mutation", "cnv"):
                low, high = (0, 2) if channel == "mutation" else (-2, 3)
                values[..., position] = torch.randint(low, high, shape[:2], generator=g).float()
        neighbours = None
        if name == "imaging_feature" and tiles_have_places:
            neighbours = torch.full((count, shape[1], 2), -1)
            for patient in range(count):
                for tile in range(shape[1]):
                    degree = int(torch.randint(0, 3, (1,), generator=g))
                    others = [t for t in torch.randperm(shape[1], generator=g).tolist() if t != tile]
                    neighbours[patient, tile, :degree] = torch.tensor(others[:degree], dtype=torch.int64)
        nodes[name] = NodeTensors(torch.where(present, values, 0.0), present, neighbours)
    outcomes = Outcomes(
        torch.rand(count, generator=g) * 1000,
        (torch.rand(count, generator=g) < 0.5).float(),
        torch.rand(count, generator=g) < 0.8,
        torch.randint(-1, 3, (count,), generator=g),
        torch.randint(0, 2, (count, 2), generator=g).float(),
        torch.rand((count, 2), generator=g) < 0.8,
    )
    return PatientTensors(tuple(f"p{i}" for i in range(count)), nodes, outcomes)


def scaling_of(contract: Contract, topology: Topology, seed: int = 0) -> Scaling:
    """Random means and deviations."""
    g = torch_generator(seed, "scaling")
    mean, deviation = {}, {}
    for name in contract.node_types:
        rows = 1 if name == "imaging_feature" else len(topology.nodes[name])
        shape = (rows, len(topology.channels[name]))
        mean[name], deviation[name] = torch.randn(shape, generator=g), torch.rand(shape, generator=g) + 0.5
    return Scaling(mean, deviation)
