"""Protein-protein interactions between genes' products, from STRING."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd

from mmfed_common.errors import ModelError
from mmfed_common.knowledge import Source
from mmfed_simulations.knowledge.gene_table import GeneTable
from mmfed_simulations.knowledge.reading import numbers_of, table_chunks, table_of
from mmfed_simulations.knowledge.source_files import SourceFile

Scores = dict[tuple[str, str], float]
"""(gene, gene) in alphabetical order → combined score, 0 … 1000."""


def read_interactions(
    files: Sequence[SourceFile], genes: GeneTable, least_score: float
) -> tuple[Scores, list[Source]]:
    """Read every interaction of at least this combined score.

    Takes STRING's ``protein.links`` with its ``protein.info`` (which gives the identifiers their names), or
    tables ``a, b, combined_score`` of gene symbols. Of several scores of one pair the greatest counts.

    Raises
    ------
    ModelError
        ``MMF-601`` when links come without their info file.
    """
    records: list[Source] = []
    names: dict[str, str] = {}
    for source in files:
        if source.kind == "string_info":
            table = table_of(source.path, "\t", ["#string_protein_id", "preferred_name"])
            symbols = genes.resolve_all(table["preferred_name"])
            known = symbols.notna()
            names |= dict(zip(table.loc[known, "#string_protein_id"], symbols[known], strict=True))
            records.append(source.record(len(table), int((~known).sum())))
    scores: Scores = {}
    for source in files:
        if source.kind == "string_links":
            if not names:
                what = "links need the file `9606.protein.info.v….txt.gz` of the same STRING version"
                raise ModelError("MMF-601", what, str(source.path))
            read = [0, 0]
            for chunk in table_chunks(source.path, " ", ["protein1", "protein2", "combined_score"]):
                columns = (chunk["protein1"].map(names), chunk["protein2"].map(names))
                read = _collect(
                    scores, columns, numbers_of(chunk["combined_score"], source.path), least_score, read
                )
            records.append(source.record(*read))
        elif source.kind == "interaction_table":
            table = table_of(source.path, ",", ["a", "b", "combined_score"])
            columns = (genes.resolve_all(table["a"]), genes.resolve_all(table["b"]))
            read = _collect(
                scores, columns, numbers_of(table["combined_score"], source.path), least_score, [0, 0]
            )
            records.append(source.record(*read))
    return scores, records


def _collect(
    scores: Scores, ends: tuple[pd.Series, pd.Series], score: pd.Series, least: float, read: list[int]
) -> list[int]:
    known = ends[0].notna() & ends[1].notna()
    keep = known & (score >= least) & (ends[0] != ends[1])
    for a, b, value in zip(ends[0][keep], ends[1][keep], score[keep], strict=True):
        pair = (a, b) if a < b else (b, a)
        scores[pair] = max(float(value), scores.get(pair, 0.0))
    return [read[0] + len(score), read[1] + int((~known).sum())]


def strongest(scores: Mapping[tuple[str, str], float], among: Collection[str], most: int | None) -> Scores:
    """Keep the interactions among some genes, at most ``most`` for each gene.

    From the strongest down (equal ones alphabetically), a pair stays while both of its genes have room.
    """
    inside = set(among)
    pairs = [(pair, score) for pair, score in scores.items() if pair[0] in inside and pair[1] in inside]
    pairs.sort(key=lambda item: (-item[1], item[0]))
    if most is None:
        return dict(pairs)
    room = dict.fromkeys(inside, most)
    kept: Scores = {}
    for (a, b), score in pairs:
        if room[a] > 0 and room[b] > 0:
            room[a], room[b] = room[a] - 1, room[b] - 1
            kept[(a, b)] = score
    return kept


def both_directions(scores: Mapping[tuple[str, str], float]) -> Iterable[tuple[str, str, float]]:
    """Give each interaction once in each direction with its score over 1000."""
    for (a, b), score in scores.items():
        yield a, b, score / 1000.0
        yield b, a, score / 1000.0
