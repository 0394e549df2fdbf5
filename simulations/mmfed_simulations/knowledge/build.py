"""Building a knowledge pack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmfed_common.errors import ModelError
from mmfed_common.knowledge import KnowledgePack, Pair, Protein
from mmfed_common.topology import PROTEIN_INTERACTS, REGULATES, Relation
from mmfed_simulations.knowledge.gene_table import GeneTable, read_genes
from mmfed_simulations.knowledge.interactions import Scores, both_directions, read_interactions, strongest
from mmfed_simulations.knowledge.pathways import ReactomeLevel, read_pathways
from mmfed_simulations.knowledge.proteins import lifted, plain_proteins, read_antibodies
from mmfed_simulations.knowledge.regulation import read_regulation
from mmfed_simulations.knowledge.source_files import GENES, SourceFile

GeneEdges = Literal["regulatory", "interactions", "both"]
Proteins = Literal["antibodies", "genes", "both", "none"]


@dataclass(frozen=True)
class PackSettings:
    """What goes into a pack.

    Attributes
    ----------
    genes, proteins_named
        Names to keep, e.g. the columns of a table; old gene names are resolved. ``None`` keeps all.
    least_score
        Least STRING combined score, 0 … 1000.
    most_edges
        Most interactions of one gene, the strongest; ``None``: no limit.
    genes_in_pathways
        Keep only genes of the gene sets that are read.
    gene_edges
        Relation between genes: regulation, interactions of their products, or both.
    proteins
        Protein nodes: antibodies, one for each coding gene, both, or none.
    least_genes, most_genes
        Sizes that a pathway may have among the genes kept; ``most_genes = None``: no limit.
    reactome_level
        See :func:`read_pathways`.
    """

    genes: frozenset[str] | None = None
    proteins_named: frozenset[str] | None = None
    least_score: float = 700.0
    most_edges: int | None = 10
    genes_in_pathways: bool = False
    gene_edges: GeneEdges = "regulatory"
    proteins: Proteins = "antibodies"
    least_genes: int = 3
    most_genes: int | None = None
    reactome_level: ReactomeLevel = "all"


def build_pack(
    sources: Sequence[SourceFile], out: Path | None, settings: PackSettings | None = None
) -> KnowledgePack:
    """Build a pack and write it to a file.

    Parameters
    ----------
    sources
        See :func:`mmfed_simulations.knowledge.choose_sources`. Exactly one of them gives the genes.
    out
        Where to write; ``None``: nowhere.
    settings
        What goes in.

    Raises
    ------
    ModelError
        ``MMF-601`` when a source cannot be read, no or several files give the genes, or nothing is left.
    """
    wanted = settings or PackSettings()
    gene_files = [source for source in sources if source.kind in GENES]
    if len(gene_files) != 1:
        names = ", ".join(source.path.name for source in gene_files) or "none"
        raise ModelError("MMF-601", f"one file must give the genes (HGNC's complete set); there are: {names}")
    genes, gene_record = read_genes(gene_files[0])
    kept = _kept_genes(genes, wanted)
    scores, interaction_records = read_interactions(sources, genes, wanted.least_score)
    regulation, regulation_records = read_regulation(sources, genes)
    pathways, pathway_records = read_pathways(sources, genes, wanted.reactome_level)
    if wanted.genes_in_pathways:
        kept &= {gene for members in pathways.values() for gene in members}
        if not kept:
            raise ModelError("MMF-601", "no gene is left: none is in the gene sets that were read")
    antibodies, protein_records = read_antibodies(sources, genes)
    proteins = _proteins(antibodies, genes, kept, wanted)
    records = [gene_record, *interaction_records, *regulation_records, *pathway_records, *protein_records]
    origin = next((record.name for record in interaction_records), "")
    in_size = {
        name: members
        for name, members in pathways.items()
        if wanted.least_genes <= len(kept.intersection(members)) <= (wanted.most_genes or len(kept))
    }
    pack = KnowledgePack.assemble(
        kept,
        proteins,
        relations=_relations(scores, regulation, proteins, kept, wanted, origin),
        pathways=in_size,
        aliases=genes.symbols.aliases,
        sources=records,
    )
    if out is not None:
        pack.save(out)
    return pack


def _kept_genes(genes: GeneTable, settings: PackSettings) -> set[str]:
    if settings.genes is None:
        return set(genes.symbols.approved)
    found = {genes.symbols.resolve(name) for name in settings.genes}
    kept = {gene for gene in found if gene is not None}
    if not kept:
        raise ModelError("MMF-601", "none of the names asked for is a gene that the sources know")
    return kept


def _proteins(
    antibodies: Sequence[Protein], genes: GeneTable, kept: set[str], settings: PackSettings
) -> list[Protein]:
    proteins = list(antibodies) if settings.proteins in ("antibodies", "both") else []
    if settings.proteins in ("genes", "both"):
        proteins += plain_proteins(genes, kept, {protein.name for protein in proteins})
    if settings.proteins_named is not None:
        proteins = [protein for protein in proteins if protein.name in settings.proteins_named]
    return proteins


def _relations(
    scores: Scores,
    regulation: Sequence[Pair],
    proteins: Sequence[Protein],
    kept: set[str],
    settings: PackSettings,
    origin: str,
) -> dict[Relation, list[Pair]]:
    """Choose the strongest pairs among the genes that count: those kept, or those that code for a protein."""
    coding = {gene for protein in proteins for gene in protein.genes}
    between_proteins = strongest(scores, coding, settings.most_edges)
    between_genes = list(regulation) if settings.gene_edges in ("regulatory", "both") else []
    if settings.gene_edges in ("interactions", "both"):
        among = strongest(scores, kept, settings.most_edges)
        between_genes += [Pair(a, b, weight, origin) for a, b, weight in both_directions(among)]
    return {REGULATES: between_genes, PROTEIN_INTERACTS: list(lifted(between_proteins, proteins, origin))}
