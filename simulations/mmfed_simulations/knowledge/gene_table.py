"""Genes and their names, from HGNC."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd

from mmfed_common.knowledge import Source, SymbolTable
from mmfed_simulations.knowledge.reading import table_of
from mmfed_simulations.knowledge.source_files import SourceFile


@dataclass(frozen=True)
class GeneTable:
    """Approved genes, their other names, and which of them code for a protein (have a UniProt entry)."""

    symbols: SymbolTable
    coding: frozenset[str]

    def resolve_all(self, names: pd.Series) -> pd.Series:
        """Replace names by approved symbols; ``NaN`` where unknown or ambiguous."""
        meaning = {name: self.symbols.resolve(name) for name in pd.unique(names)}
        return names.map(meaning)


def read_genes(source: SourceFile) -> tuple[GeneTable, Source]:
    """Read HGNC's complete set, or a table ``gene, hgnc_symbol, …, uniprot`` of names that were mapped.

    Withdrawn entries are left out. ``alias_symbol`` and ``prev_symbol`` are other names of a gene. The
    version of a complete set without one in its name is the date of its latest change.
    """
    other: list[tuple[str, str]] = []
    if source.kind == "hgnc":
        columns = ["symbol", "status", "alias_symbol", "prev_symbol", "uniprot_ids", "date_modified"]
        table = table_of(source.path, "\t", columns)
        if source.version == "unknown" and len(table):
            source = replace(source, version=str(table["date_modified"].max()))
        table = table[table["status"] == "Approved"]
        approved, coding = table["symbol"], table.loc[table["uniprot_ids"] != "", "symbol"]
        for column in ("alias_symbol", "prev_symbol"):
            for names, symbol in zip(table[column], table["symbol"], strict=True):
                other += [(name.strip(), symbol) for name in names.split("|") if name.strip()]
        unresolved = 0
    else:
        table = table_of(source.path, ",", ["gene", "hgnc_symbol", "uniprot"])
        unresolved = int((table["hgnc_symbol"] == "").sum())
        table = table[table["hgnc_symbol"] != ""]
        approved, coding = table["hgnc_symbol"], table.loc[table["uniprot"] != "", "hgnc_symbol"]
        other = list(zip(table["gene"], table["hgnc_symbol"], strict=True))
    genes = GeneTable(SymbolTable.build(_texts(approved), other), frozenset(_texts(coding)))
    return genes, source.record(len(table) + unresolved, unresolved)


def _texts(column: Iterable[object]) -> list[str]:
    return [str(value) for value in column]
