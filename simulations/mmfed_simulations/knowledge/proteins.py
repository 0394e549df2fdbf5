"""Proteins as they are measured: antibodies with the genes they bind, or plain proteins by gene symbol."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import product

from mmfed_common.knowledge import Pair, Protein, Source
from mmfed_simulations.knowledge.gene_table import GeneTable
from mmfed_simulations.knowledge.interactions import both_directions
from mmfed_simulations.knowledge.reading import table_of
from mmfed_simulations.knowledge.source_files import SourceFile


def read_antibodies(files: Sequence[SourceFile], genes: GeneTable) -> tuple[list[Protein], list[Source]]:
    """Read antibodies; one whose genes are unknown stays a protein that no gene codes for."""
    proteins: list[Protein] = []
    records: list[Source] = []
    for source in (s for s in files if s.kind == "antibodies"):
        table = table_of(source.path, ",", ["antibody", "genes"])
        unmapped = 0
        for antibody, names in zip(table["antibody"], table["genes"], strict=True):
            found = {genes.symbols.resolve(name) for name in names.split()} - {None}
            unmapped += not found
            proteins.append(Protein(antibody, tuple(sorted(gene for gene in found if gene is not None))))
        records.append(source.record(len(table), unmapped))
    return proteins, records


def plain_proteins(genes: GeneTable, kept: Collection[str], taken: Collection[str]) -> list[Protein]:
    """Make one protein for each coding gene, named by its symbol unless that name is taken."""
    return [Protein(gene, (gene,)) for gene in sorted(genes.coding & set(kept)) if gene not in taken]


def lifted(
    scores: Mapping[tuple[str, str], float], proteins: Iterable[Protein], origin: str
) -> Iterable[Pair]:
    """Lift interactions between genes to the proteins they code for, in both directions.

    Every protein of one gene interacts with every protein of the other; several forms of one protein are
    not linked with each other on that account.
    """
    forms: dict[str, list[str]] = {}
    for protein in proteins:
        for gene in protein.genes:
            forms.setdefault(gene, []).append(protein.name)
    for a, b, weight in both_directions(scores):
        for left, right in product(forms.get(a, ()), forms.get(b, ())):
            if left != right:
                yield Pair(left, right, weight, origin)
