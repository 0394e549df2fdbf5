"""What a knowledge pack holds, for people and for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table

from mmfed_common.knowledge import KnowledgePack


def pack_as_json(pack: KnowledgePack) -> dict[str, Any]:
    """Give counts, hash and sources; ``relations`` counts directed pairs."""
    return {
        "sha256": pack.sha256,
        "genes": len(pack.genes),
        "proteins": len(pack.proteins),
        "metabolites": len(pack.metabolites),
        "relations": {" ".join(relation): len(pairs) for relation, pairs in pack.relations.items()},
        "gene codes_for protein": sum(len(protein.genes) for protein in pack.proteins),
        "pathways": len(pack.pathways),
        "genes in a pathway": len(set().union(*pack.pathways.values())),
        "aliases": len(pack.aliases),
        "references": {key: len(among) for key, among in pack.references.items()},
        "sources": [asdict(source) for source in pack.sources],
    }


def pack_tables(pack: KnowledgePack) -> tuple[Table, Table]:
    """Give a table of counts and a table of sources."""
    content = pack_as_json(pack)
    counts = Table("what", "how many", title="knowledge pack")
    for name in ("genes", "proteins", "metabolites"):
        counts.add_row(name, str(content[name]))
    for relation, number in content["relations"].items():
        counts.add_row(relation, str(number))
    for name in ("gene codes_for protein", "pathways", "genes in a pathway", "aliases"):
        counts.add_row(name, str(content[name]))
    for key, number in content["references"].items():
        counts.add_row(f"reference values of {key}", str(number))
    sources = Table("source", "version", "licence", "file", "entries", "unresolved", title="sources")
    for source in pack.sources:
        cells = (source.name, source.version, source.licence, source.file)
        sources.add_row(*cells, str(source.entries), str(source.unresolved))
    return counts, sources
