"""Matching the columns of a table of measurements to a study's panel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mmfed_common.errors import Fault
from mmfed_common.knowledge.symbols import SymbolTable

EXCEL_DATE = re.compile(
    r"^(\d{1,2}[-./](jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\w*|\d{4}-\d\d-\d\d.*)$", re.I
)
ENSEMBL = re.compile(r"^ENSG\d{11}")


@dataclass(frozen=True)
class PanelMatch:
    """Which columns of a table hold which nodes of the panel.

    Attributes
    ----------
    columns
        Columns to read.
    nodes
        Index in the panel of each of these columns.
    unknown
        Columns whose names are no gene symbol that the knowledge pack knows (genes only).
    faults
        Old names that were resolved, and columns that mean the same gene.
    """

    columns: tuple[str, ...]
    nodes: tuple[int, ...]
    unknown: tuple[str, ...]
    faults: tuple[Fault, ...]


def match_names(panel: Sequence[str], present: Iterable[str], renamed: Mapping[str, str]) -> PanelMatch:
    """Match by exact name; ``renamed`` gives the table's column where it has another name."""
    have = set(present)
    pairs = [(renamed.get(name, name), node) for node, name in enumerate(panel)]
    found = [(column, node) for column, node in pairs if column in have]
    return PanelMatch(tuple(c for c, _ in found), tuple(n for _, n in found), (), ())


def match_genes(
    panel: Sequence[str],
    present: Sequence[str],
    renamed: Mapping[str, str],
    symbols: SymbolTable | None,
    table: str,
) -> PanelMatch:
    """Match gene columns: by exact name first, then by the approved symbol of an old name.

    Where the panel's own name stands in the table, a second column under an old name is left out with a
    warning; two old names of one gene are an error (``MMF-218``), because neither is better.
    """
    exact = match_names(panel, present, renamed)
    if symbols is None:
        return exact
    taken = dict(zip(exact.nodes, exact.columns, strict=True))
    node_of = {symbols.resolve(name) or name: node for node, name in enumerate(panel)}
    used = set(exact.columns)
    by_alias: dict[int, list[str]] = {}
    unknown = []
    for column in present:
        if column in used:
            continue
        approved = symbols.resolve(column)
        if approved is None:
            unknown.append(column)
        elif approved in node_of:
            by_alias.setdefault(node_of[approved], []).append(column)
    faults = [
        _same_gene(panel[node], columns, taken.get(node), table)
        for node, columns in by_alias.items()
        if node in taken or len(columns) > 1
    ]
    resolved = {node: columns[0] for node, columns in by_alias.items() if node not in taken}
    if resolved:
        names = [f"{column} → {panel[node]}" for node, column in resolved.items()]
        what = f"{len(names)} old gene name(s) were resolved: {_some(names)}"
        faults.append(
            Fault("MMF-213", what, table, None, next(iter(resolved.values())), len(names), "warning")
        )
    nodes = sorted({**taken, **resolved}.items())
    return PanelMatch(tuple(c for _, c in nodes), tuple(n for n, _ in nodes), tuple(unknown), tuple(faults))


def _same_gene(gene: str, columns: list[str], exact: str | None, table: str) -> Fault:
    if exact is not None:
        what = f"{', '.join(columns)} and {exact} are the same gene; the column {exact} is used"
        return Fault("MMF-218", what, table, None, columns[0], len(columns), "warning")
    what = f"{', '.join(columns)} are all old names of {gene}"
    return Fault("MMF-218", what, table, None, columns[1], len(columns))


def unknown_symbols(unknown: Sequence[str], table: str, *, covered: bool) -> list[Fault]:
    """Report columns that are no known gene symbol.

    A warning while the panel is covered as the contract asks, an error where it is not: then the unknown
    names are the likely cause.
    """
    if not unknown:
        return []
    hint = ""
    if any(EXCEL_DATE.match(name) for name in unknown):
        hint = "; some look like dates, into which spreadsheets turn names such as MARCHF1 or SEPTIN2"
    elif any(ENSEMBL.match(name) for name in unknown):
        hint = "; some are Ensembl identifiers, which must be replaced by HGNC symbols"
    what = (
        f"{len(unknown)} column(s) are no gene of the study's knowledge pack, or an ambiguous name: "
        f"{_some(unknown)}{hint}"
    )
    severity = "warning" if covered else "error"
    return [Fault("MMF-213", what, table, None, unknown[0], len(unknown), severity)]


def coverage_fault(modality: str, panel: Sequence[str], measured: set[int], least: float) -> Fault | None:
    """Report a panel of which too little is measured (``MMF-214``)."""
    share = len(measured) / len(panel) if panel else 1.0
    if share >= least:
        return None
    absent = [name for node, name in enumerate(panel) if node not in measured]
    what = (
        f"{len(measured)} of the {len(panel)} in the {modality} panel are measured ({share:.0%}); the "
        f"contract asks for {least:.0%}; missing are {_some(absent)}"
    )
    return Fault("MMF-214", what, modality, None, absent[0], len(absent))


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)})" if len(names) > most else "")
