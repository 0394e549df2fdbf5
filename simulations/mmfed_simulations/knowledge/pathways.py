"""Gene sets, from GMT files or tables with one set a column, and Reactome's hierarchy of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mmfed_common.errors import ModelError
from mmfed_common.knowledge import Source
from mmfed_simulations.knowledge.gene_table import GeneTable
from mmfed_simulations.knowledge.reading import lines_of, table_of
from mmfed_simulations.knowledge.source_files import PATHWAYS, SourceFile

ReactomeLevel = Literal["all", "top", "lowest"]
GeneSet = tuple[str, str, list[str]]
"""Name, identifier or description, gene names as published."""


def read_pathways(
    files: Sequence[SourceFile], genes: GeneTable, level: ReactomeLevel = "all"
) -> tuple[dict[str, list[str]], list[Source]]:
    """Read every gene set.

    A name that occurs twice gets its identifier in brackets. ``level`` takes, among the sets that Reactome's
    hierarchy knows, all, those that are part of no other set read here (``"top"``), or those that have no
    part here (``"lowest"``).

    Raises
    ------
    ModelError
        ``MMF-601`` when a file is not of its format, or a level is asked for without the hierarchy.
    """
    parts: set[tuple[str, str]] = set()
    records: list[Source] = []
    for source in (s for s in files if s.kind == "hierarchy" and level != "all"):
        rows = [line.replace(",", "\t").split("\t") for line in lines_of(source.path)]
        pairs = [(row[0], row[1]) for row in rows if len(row) == 2 and row[0] != "parent"]
        parts.update(pairs)
        records.append(source.record(len(pairs), 0))
    if level != "all" and not parts:
        raise ModelError(
            "MMF-601", f"level {level!r} needs Reactome's hierarchy (ReactomePathwaysRelation.txt)"
        )
    pathways: dict[str, list[str]] = {}
    for source in (s for s in files if s.kind in PATHWAYS):
        sets = _read_gmt(source) if source.kind == "gmt" else _read_columns(source)
        sets = _at_level(sets, parts, level)
        entries = unresolved = 0
        for name, identifier, members in sets:
            found = [genes.symbols.resolve(member) for member in members]
            entries, unresolved = entries + len(found), unresolved + found.count(None)
            unique = f"{name} ({identifier})" if name in pathways else name
            pathways[unique] = [gene for gene in found if gene is not None]
        records.append(source.record(entries, unresolved))
    return pathways, records


def _read_gmt(source: SourceFile) -> list[GeneSet]:
    sets: list[GeneSet] = []
    for number, line in enumerate(lines_of(source.path), start=1):
        cells = line.split("\t")
        if line and (len(cells) < 3 or not cells[0]):
            raise ModelError("MMF-601", f"line {number} is not name, description, genes …", str(source.path))
        if line:
            sets.append(
                (cells[0].strip(), cells[1].strip(), [cell.strip() for cell in cells[2:] if cell.strip()])
            )
    return sets


def _read_columns(source: SourceFile) -> list[GeneSet]:
    names = lines_of(source.path, 1)[0].split(",")
    table = table_of(source.path, ",", names)
    return [(name, source.name, [gene.strip() for gene in table[name] if gene.strip()]) for name in names]


def _at_level(sets: list[GeneSet], parts: set[tuple[str, str]], level: ReactomeLevel) -> list[GeneSet]:
    if level == "all":
        return sets
    here = {identifier for _, identifier, _ in sets}
    inner = {pair for pair in parts if pair[0] in here and pair[1] in here}
    without = {child for _, child in inner} if level == "top" else {parent for parent, _ in inner}
    return [item for item in sets if item[1] not in without]
