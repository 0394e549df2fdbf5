"""Which files a pack is built from, and what each of them is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mmfed_common.errors import ModelError
from mmfed_common.knowledge import Source
from mmfed_simulations.knowledge.reading import lines_of, sha256_of

Kind = Literal[
    "hgnc",
    "gene_map",
    "string_links",
    "string_info",
    "interaction_table",
    "trrust",
    "trrust_table",
    "dorothea_table",
    "gmt",
    "gene_families",
    "hierarchy",
    "antibodies",
]

GENES: tuple[Kind, ...] = ("hgnc", "gene_map")
PATHWAYS: tuple[Kind, ...] = ("gmt", "gene_families")
REGULATION: dict[str, tuple[Kind, ...]] = {
    "trrust": ("trrust", "trrust_table"),
    "dorothea": ("dorothea_table",),
}

HEADERS: tuple[tuple[str, Kind], ...] = (
    (r"hgnc_id\tsymbol\t", "hgnc"),
    (r"gene,hgnc_symbol,", "gene_map"),
    (r"protein1 protein2 (.* )?combined_score$", "string_links"),
    (r"#string_protein_id\tpreferred_name", "string_info"),
    (r"a,b,(.*,)?combined_score$", "interaction_table"),
    (r"tf,target,mode", "trrust_table"),
    (r"tf,confidence,target,mor", "dorothea_table"),
    (r"antibody,genes", "antibodies"),
    (r"parent,child$", "hierarchy"),
    (r"R-[A-Z]{3}-\d+\tR-[A-Z]{3}-\d+$", "hierarchy"),
    (r"[^\t]+\t[^\t]+\t(Activation|Repression|Unknown)\t", "trrust"),
)
"""What the first line of each kind of file looks like."""

ORIGINS: dict[Kind, tuple[str, str]] = {
    "hgnc": ("HGNC", "CC0"),
    "gene_map": ("HGNC", "CC0"),
    "string_links": ("STRING", "CC BY 4.0"),
    "string_info": ("STRING", "CC BY 4.0"),
    "interaction_table": ("STRING", "CC BY 4.0"),
    "trrust": ("TRRUST", "CC BY-SA 4.0"),
    "trrust_table": ("TRRUST", "CC BY-SA 4.0"),
    "dorothea_table": ("DoRothEA", "academic use only"),
    "gmt": ("gene sets", "unknown"),
    "gene_families": ("MSigDB gene families (PORPOISE)", "GPL-3"),
    "hierarchy": ("Reactome", "CC0"),
    "antibodies": ("RPPA antibodies (TCGA-Assembler 2)", "GPL-3"),
}
GENE_SETS: tuple[tuple[str, str, str], ...] = (
    ("hallmark", "MSigDB hallmark", "CC BY 4.0"),
    ("h.all", "MSigDB hallmark", "CC BY 4.0"),
    ("reactome", "Reactome", "CC0"),
)
"""GMT files that are known by their file names: part of the name, owner, licence."""


@dataclass(frozen=True)
class SourceFile:
    """One file to build from.

    Attributes
    ----------
    kind
        Its format, see docs/knowledge.md.
    name, version, licence
        As its owner gives them.
    """

    path: Path
    kind: Kind
    name: str
    version: str
    licence: str

    @staticmethod
    def recognise(path: Path) -> SourceFile:
        """Tell from its first line, and for gene sets from its name, what a file is.

        Raises
        ------
        ModelError
            ``MMF-601`` when it cannot be read or is none of the known formats.
        """
        first = next(iter(lines_of(path, 1)), "")
        kind = next((kind for pattern, kind in HEADERS if re.match(pattern, first)), None)
        if kind is None and ".gmt" in path.suffixes and first.count("\t") >= 2:
            kind = "gmt"
        if kind is None and "gene_families" in path.name and "," in first:
            kind = "gene_families"
        if kind is None:
            raise ModelError("MMF-601", f"its format is not known; it starts with {first[:60]!r}", str(path))
        name, licence = ORIGINS[kind]
        if kind == "gmt":
            for part, owner, terms in GENE_SETS:
                if part in path.name.lower():
                    name, licence = owner, terms
        version = re.search(r"(?:^|[._-])v?(\d+(?:\.\d+)+)(?=[._-]|$)|[._-]v(\d+)(?=[._-]|$)", path.name)
        found = next(part for part in version.groups() if part) if version else "unknown"
        return SourceFile(path, kind, name, found, licence)

    def record(self, entries: int, unresolved: int) -> Source:
        """Describe the file for the pack, with its hash and what was read."""
        digest = sha256_of(self.path)
        return Source(self.name, self.version, self.licence, self.path.name, digest, entries, unresolved)


def choose_sources(
    tables: Path | None,
    files: Sequence[Path],
    pathways: Sequence[str] | None = None,
    regulation: Sequence[str] = ("trrust",),
    versions: Mapping[str, str] | None = None,
) -> list[SourceFile]:
    """Choose what a pack is built from.

    Parameters
    ----------
    tables
        A folder in which every file of a known format is considered; others are passed over. Where it has
        several interaction tables, the largest is taken: they are cuts of one network.
    files
        Files to use; each must be of a known format. What its owner's files give is then not taken from
        ``tables``.
    pathways
        Each a path to a GMT file, or part of the name of one among the files, e.g. ``"hallmark"``.
        ``None``: every gene set file among ``files``, or the hallmark sets where there is none.
    regulation
        ``"trrust"`` and ``"dorothea"``, or nothing.
    versions
        Owner → version, for files that do not state theirs, e.g. ``{"HGNC": "2024-07-23"}``.

    Raises
    ------
    ModelError
        ``MMF-601`` when a file is unknown, or a pathway collection asked for is not there.
    """
    given = [SourceFile.recognise(path) for path in files]
    replaced = {source.name for source in given if source.kind not in PATHWAYS}
    found = (
        [s for s in _known_files(tables) if s.kind in PATHWAYS or s.name not in replaced] if tables else []
    )
    for name in regulation:
        if name not in REGULATION:
            raise ModelError("MMF-601", f"no regulation {name!r}; there are: {', '.join(REGULATION)}")
    wanted = {kind for name in regulation for kind in REGULATION[name]}
    skipped = {kind for kinds in REGULATION.values() for kind in kinds} - wanted
    every = given + found
    chosen = [s for s in every if s.kind not in skipped and s.kind not in PATHWAYS]
    own_sets = [s for s in given if s.kind in PATHWAYS]
    if pathways is None and own_sets:
        chosen += own_sets
    for selection in ("hallmark",) if pathways is None and not own_sets else pathways or ():
        chosen.append(_pathway_file(selection, [s for s in every if s.kind in PATHWAYS]))
    stated = versions or {}
    return [replace(s, version=stated.get(s.name, s.version)) for s in dict.fromkeys(chosen)]


def _known_files(tables: Path) -> list[SourceFile]:
    if not tables.is_dir():
        raise ModelError("MMF-601", "there is no such folder", str(tables))
    found: list[SourceFile] = []
    for path in sorted(p for p in tables.iterdir() if p.is_file()):
        if path.name.removesuffix(".gz").endswith((".csv", ".tsv", ".txt", ".gmt")):
            try:
                found.append(SourceFile.recognise(path))
            except ModelError:
                continue
    networks = [source for source in found if source.kind == "interaction_table"]
    largest = max(networks, key=lambda s: s.path.stat().st_size, default=None)
    return [source for source in found if source.kind != "interaction_table" or source is largest]


def _pathway_file(selection: str, known: Sequence[SourceFile]) -> SourceFile:
    path = Path(selection)
    if path.is_file():
        return SourceFile.recognise(path)
    matching = [source for source in known if selection.lower() in source.path.name.lower()]
    if len(matching) != 1:
        names = ", ".join(source.path.name for source in known) or "none"
        raise ModelError("MMF-601", f"{len(matching)} gene set files match {selection!r}; there are: {names}")
    return matching[0]
