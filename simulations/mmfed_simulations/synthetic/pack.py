"""The knowledge pack of a synthetic consortium: what the literature would know about its made-up genes."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from mmfed_common.knowledge import KnowledgePack, Pair, Protein, Source
from mmfed_common.randomness import numpy_generator
from mmfed_common.topology import PROTEIN_INTERACTS, REGULATES
from mmfed_simulations.synthetic.settings import SyntheticSettings
from mmfed_simulations.synthetic.truth import Integers, PlantedTruth

ORIGIN = "synthetic"
RANDOM_TARGETS = 2
"""Random regulatory and protein partners of each gene and protein, beside those of its module."""
REGULATED = 6
"""The first gene of a module regulates the next ones, up to this position."""


def make_pack(settings: SyntheticSettings, truth: PlantedTruth) -> KnowledgePack:
    """Know every pathway, the regulation within each pathway's core, and much that does not matter.

    Each gene has one old name, ``OLDGENE…``, so that aliases can be tried.
    """
    draw = numpy_generator(settings.seed, "synthetic", "knowledge")
    proteins = [Protein(n, (truth.genes[g],)) for n, g in zip(truth.proteins, truth.codes_for, strict=True)]
    regulation = [
        (int(core[0]), int(target)) for core in truth.cores.values() for target in core[1:REGULATED]
    ] + _random_pairs(draw, settings.genes)
    interactions = _random_pairs(draw, settings.proteins)
    described = json.dumps(settings.model_dump(mode="json"), sort_keys=True).encode()
    source = Source(
        name="mmfed synthetic consortium",
        version=f"seed {settings.seed}",
        licence="Apache-2.0",
        file="generated",
        sha256=hashlib.sha256(described).hexdigest(),
        entries=len(regulation) + len(interactions),
    )
    return KnowledgePack.assemble(
        truth.genes,
        proteins,
        truth.metabolites,
        {
            REGULATES: [Pair(truth.genes[a], truth.genes[b], 1.0, ORIGIN) for a, b in regulation],
            PROTEIN_INTERACTS: [
                Pair(truth.proteins[i], truth.proteins[j], 0.9, ORIGIN)
                for a, b in interactions
                for i, j in ((a, b), (b, a))
            ],
        },
        {name: [truth.genes[i] for i in members] for name, members in truth.pathways.items()},
        {f"OLD{gene}": (gene,) for gene in truth.genes},
        [source],
    )


def _random_pairs(draw: np.random.Generator, nodes: int) -> list[tuple[int, int]]:
    source: Integers = np.repeat(np.arange(nodes), RANDOM_TARGETS)
    target = draw.integers(0, nodes, size=len(source))
    return [(int(a), int(b)) for a, b in zip(source, target, strict=True) if a != b]
