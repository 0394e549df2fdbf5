"""What is planted: which genes, pathways, proteins, metabolites and imaging features matter, and how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmfed_common.randomness import numpy_generator
from mmfed_simulations.synthetic.settings import SyntheticSettings

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CORE_GENES = 5
"""Genes of a module that its pathway lists, in every pathway that is not planted."""

MODULE = {"protein": 10, "metabolite": 10, "imaging": 8}
"""Neighbouring proteins, metabolites or imaging features that move together; one such module is planted."""

TOXICITIES = ("neutropenia", "neuropathy", "hepatotoxicity", "mucositis")


@dataclass(frozen=True)
class PlantedTruth:
    """The biology of a synthetic consortium.

    Attributes
    ----------
    genes, proteins, metabolites, imaging
        Names, in the order of the tables' columns.
    pathways
        Pathway name → gene indices. The first ``planted_pathways`` (by index, not by name) are planted.
    planted_pathways
        Names of the planted pathways.
    cores
        Pathway name → indices of the genes that move together: in a planted pathway its planted genes, in any
        other a larger module, of which the pathway lists a few. Every gene is in one of them.
    gene_weights, protein_weights, metabolite_weights, imaging_weights
        Weight of each standardised feature in its part of the log-hazard, before the part is scaled; 0 where
        nothing is planted.
    codes_for
        ``(proteins,)`` index of the gene that codes for each protein.
    """

    genes: tuple[str, ...]
    proteins: tuple[str, ...]
    metabolites: tuple[str, ...]
    imaging: tuple[str, ...]
    pathways: dict[str, Integers]
    planted_pathways: tuple[str, ...]
    cores: dict[str, Integers]
    gene_weights: Floats
    protein_weights: Floats
    metabolite_weights: Floats
    imaging_weights: Floats
    codes_for: Integers

    @property
    def planted_genes(self) -> tuple[str, ...]:
        """Names of the genes with an effect on the hazard."""
        return tuple(self.genes[i] for i in np.flatnonzero(self.gene_weights))


def plant(settings: SyntheticSettings) -> PlantedTruth:
    """Choose what matters, from the settings' seed."""
    draw = numpy_generator(settings.seed, "synthetic", "truth")
    n_genes, per_pathway = settings.genes, settings.planted_genes // settings.planted_pathways
    order = draw.permutation(n_genes)
    planted, others = order[: settings.planted_genes], order[settings.planted_genes :]
    names = [f"PATHWAY_{i + 1:02d}" for i in draw.permutation(settings.pathways)]
    gene_weights = np.zeros(n_genes)
    pathways: dict[str, Integers] = {}
    cores: dict[str, Integers] = {}
    modules = np.array_split(others, max(1, settings.pathways - settings.planted_pathways))
    for index, name in enumerate(names):
        if index < settings.planted_pathways:
            core = planted[index * per_pathway : (index + 1) * per_pathway]
            direction = 1.0 if index % 2 == 0 else -1.0
            gene_weights[core] = direction * draw.uniform(0.8, 1.2, size=per_pathway)
        else:
            core = modules[index - settings.planted_pathways]
        known = core[: min(max(CORE_GENES, per_pathway), settings.pathway_size)]
        spare = np.setdiff1d(others, core)
        rest = draw.choice(spare, size=min(settings.pathway_size - len(known), len(spare)), replace=False)
        cores[name] = np.sort(core).astype(np.int64)
        pathways[name] = np.sort(np.concatenate([known, rest])).astype(np.int64)
    return PlantedTruth(
        genes=_names("GENE", n_genes),
        proteins=_names("PROT", settings.proteins),
        metabolites=_names("METAB", settings.metabolites),
        imaging=_names("texture_", settings.imaging_features),
        pathways=pathways,
        planted_pathways=tuple(names[: settings.planted_pathways]),
        cores=cores,
        gene_weights=gene_weights,
        protein_weights=_module(draw, settings.proteins, MODULE["protein"]),
        metabolite_weights=_module(draw, settings.metabolites, MODULE["metabolite"]),
        imaging_weights=_module(draw, settings.imaging_features, MODULE["imaging"]),
        codes_for=_coding_genes(draw, settings, planted, others),
    )


def _names(prefix: str, count: int) -> tuple[str, ...]:
    width = max(2 if prefix.endswith("_") else 4, len(str(count)))
    return tuple(f"{prefix}{i + 1:0{width}d}" for i in range(count))


def _module(draw: np.random.Generator, size: int, module: int) -> Floats:
    """Weights of one whole module, chosen at random, all of one sign."""
    first = module * int(draw.integers(0, max(1, size // module)))
    weights = np.zeros(size)
    members = weights[first : first + module]
    weights[first : first + module] = draw.choice([-1.0, 1.0]) * draw.uniform(0.8, 1.2, size=len(members))
    return weights


def _coding_genes(
    draw: np.random.Generator, settings: SyntheticSettings, planted: Integers, others: Integers
) -> Integers:
    """Half of the planted genes have a measured protein; the other proteins belong to other genes."""
    known = planted[: min(len(planted) // 2, settings.proteins)]
    rest = draw.choice(others, size=settings.proteins - len(known), replace=settings.proteins > len(others))
    return draw.permutation(np.concatenate([known, rest])).astype(np.int64)
