"""The knowledge pack: what is known about genes, proteins and pathways, independent of any cohort.

A pack is one file: gzip around two lines of JSON. The first names the format and the SHA-256 of the second;
the second is the content in one canonical form. The same content always gives the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mmfed_common.contract import KnowledgeReference
from mmfed_common.durable import write_durably
from mmfed_common.errors import ModelError
from mmfed_common.knowledge.symbols import SymbolTable
from mmfed_common.topology import Relation

FORMAT = "mmfed-knowledge/1"


class Pair(NamedTuple):
    """One directed pair of a relation.

    ``weight`` is the source's own strength: a STRING score over 1000; for regulation 1 activation,
    -1 repression, 0 unknown. ``origin`` names the source.
    """

    source: str
    target: str
    weight: float
    origin: str


@dataclass(frozen=True, order=True)
class Protein:
    """A measurable protein, or one form of it such as ``Akt_pS473``, and the genes that code for it."""

    name: str
    genes: tuple[str, ...]


@dataclass(frozen=True, order=True)
class Source:
    """Where knowledge came from.

    Attributes
    ----------
    name, version, licence
        As its owner gives them; ``"unknown"`` where not recorded.
    file, sha256
        Name and SHA-256 of the file that was read.
    entries, unresolved
        Entries read, and how many were left out since a name in them is not a known gene.
    """

    name: str
    version: str
    licence: str
    file: str
    sha256: str
    entries: int = 0
    unresolved: int = 0


References = Mapping[str, Mapping[str, tuple[float, float]]]
"""``"gene.expression"``, ``"protein.value"``, ``"metabolite.value"`` or ``"imaging_feature"`` → name → mean
and deviation of that feature, as a contract's layer reads it, in public data."""


@dataclass(frozen=True)
class KnowledgePack:
    """Nodes, relations, pathways, aliases and sources. Build it with :meth:`assemble`.

    Attributes
    ----------
    genes
        Approved symbols, sorted.
    proteins, metabolites
        Sorted by name.
    relations
        Relation → pairs between names of the pack, sorted. ``codes_for`` is not among them: it is in
        ``proteins``.
    pathways
        Pathway → its genes.
    aliases
        Other gene name → every approved symbol that has it, see :class:`SymbolTable`.
    sources
        Where all this came from.
    references
        What features are like in public data, so that a study can standardise them without asking a site.
    """

    genes: tuple[str, ...]
    proteins: tuple[Protein, ...]
    metabolites: tuple[str, ...]
    relations: Mapping[Relation, tuple[Pair, ...]]
    pathways: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, tuple[str, ...]]
    sources: tuple[Source, ...]
    references: References = field(default_factory=dict)

    @staticmethod
    def assemble(
        genes: Iterable[str],
        proteins: Iterable[Protein] = (),
        metabolites: Iterable[str] = (),
        relations: Mapping[Relation, Iterable[Pair]] | None = None,
        pathways: Mapping[str, Iterable[str]] | None = None,
        aliases: Mapping[str, Iterable[str]] | None = None,
        sources: Iterable[Source] = (),
        references: References | None = None,
    ) -> KnowledgePack:
        """Sort everything and keep what is closed under the nodes given.

        Pairs, references and pathway genes that name no node, self-pairs, empty pathways and names of genes
        that are not there are left out; of several equal pairs the one with the greatest weight stays.
        """
        kept = set(genes)
        named = {
            p.name: Protein(p.name, tuple(sorted(set(p.genes) & kept)))
            for p in sorted(proteins, reverse=True)
        }
        names: dict[str, set[str]] = {"gene": kept, "protein": set(named), "metabolite": set(metabolites)}
        closed: dict[Relation, tuple[Pair, ...]] = {}
        for relation in sorted(relations or {}):
            left, right = names.get(relation[0], set()), names.get(relation[2], set())
            best: dict[tuple[str, str], Pair] = {}
            for pair in (relations or {})[relation]:
                if pair.source in left and pair.target in right and pair.source != pair.target:
                    key, measured = pair[:2], pair._replace(weight=float(pair.weight))
                    best[key] = max(best.get(key, measured), measured)
            closed[relation] = tuple(best[key] for key in sorted(best))
        members = {name: tuple(sorted(set(listed) & kept)) for name, listed in (pathways or {}).items()}
        candidates = {name: tuple(sorted(set(listed))) for name, listed in (aliases or {}).items()}
        return KnowledgePack(
            tuple(sorted(kept)),
            tuple(named[name] for name in sorted(named)),
            tuple(sorted(names["metabolite"])),
            closed,
            {name: members[name] for name in sorted(members) if members[name]},
            {name: candidates[name] for name in sorted(candidates) if kept.intersection(candidates[name])},
            tuple(sorted(set(sources))),
            _known(references or {}, names),
        )

    @property
    def symbols(self) -> SymbolTable:
        """The pack's genes and their other names."""
        return SymbolTable(frozenset(self.genes), self.aliases)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content in hexadecimal: the pack's identity, independent of file and compression."""
        return hashlib.sha256(self._canonical()).hexdigest()

    def _canonical(self) -> bytes:
        content: dict[str, Any] = {
            "genes": self.genes,
            "proteins": [[p.name, p.genes] for p in self.proteins],
            "metabolites": self.metabolites,
            "relations": [[relation, self.relations[relation]] for relation in sorted(self.relations)],
            "pathways": self.pathways,
            "aliases": self.aliases,
            "sources": [asdict(source) for source in self.sources],
        }
        if self.references:
            content["references"] = self.references
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()

    def save(self, path: Path) -> None:
        """Write the pack to one file; the same content gives the same bytes."""
        header = json.dumps({"format": FORMAT, "sha256": self.sha256}, separators=(",", ":")).encode()
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as stream:
            stream.write(header + b"\n" + self._canonical() + b"\n")
        write_durably(path, buffer.getvalue())

    @staticmethod
    def load(path: Path) -> KnowledgePack:
        """Read a pack and verify it against its own hash.

        Raises
        ------
        ModelError
            ``MMF-601`` when there is no such file; ``MMF-603`` when it is damaged or no pack.
        """
        try:
            packed = path.read_bytes()
        except OSError as error:
            raise ModelError("MMF-601", f"cannot be read: {error.strerror}", str(path)) from None
        try:
            header_line, content, rest = gzip.decompress(packed).split(b"\n")
            header = json.loads(header_line)
            found = hashlib.sha256(content).hexdigest()
            if header["format"] != FORMAT or rest:
                raise ValueError(f"this version reads {FORMAT}, the file says {header['format']!r}")
            if header["sha256"] != found:
                raise ValueError(f"its content has the hash {found}, it says {header['sha256']}")
            pack = _parse(json.loads(content))
        except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, zlib.error) as error:
            raise ModelError("MMF-603", f"not a whole knowledge pack: {error}", str(path)) from None
        if pack.sha256 != found:
            raise ModelError("MMF-603", "its content is not in canonical form", str(path))
        return pack

    @staticmethod
    def load_for(reference: KnowledgeReference, folder: Path) -> KnowledgePack:
        """Read the pack that a study names, from the study's folder.

        Raises
        ------
        ModelError
            ``MMF-602`` when it is another pack than the study's; otherwise as :meth:`load`.
        """
        path = folder / reference.file
        pack = KnowledgePack.load(path)
        if pack.sha256 != reference.sha256:
            what = f"the study names {reference.sha256}, the file has the hash {pack.sha256}"
            raise ModelError("MMF-602", what, str(path))
        return pack


def _known(references: References, names: Mapping[str, set[str]]) -> References:
    """References of nodes that are there; imaging features are no nodes of a pack.

    Raises
    ------
    ValueError
        For a number that is not finite, or no deviation.
    """
    kept = {}
    for key in sorted(references):
        node_type, among = key.partition(".")[0], references[key]
        there = names.get(node_type, set(among))
        kept[key] = {n: (float(among[n][0]), float(among[n][1])) for n in sorted(among) if n in there}
        if not all(math.isfinite(mean) and 0 < spread < math.inf for mean, spread in kept[key].values()):
            raise ValueError(f"a reference of {key} is no mean and deviation")
    return {key: among for key, among in kept.items() if among}


def _parse(content: dict[str, Any]) -> KnowledgePack:
    relations: dict[Relation, tuple[Pair, ...]] = {}
    for (source, name, target), pairs in content["relations"]:
        relations[(source, name, target)] = tuple(Pair(a, b, float(w), origin) for a, b, w, origin in pairs)
    return KnowledgePack.assemble(
        content["genes"],
        [Protein(name, tuple(genes)) for name, genes in content["proteins"]],
        content["metabolites"],
        relations,
        content["pathways"],
        content["aliases"],
        [Source(**source) for source in content["sources"]],
        {
            key: {name: (mean, deviation) for name, (mean, deviation) in among.items()}
            for key, among in content.get("references", {}).items()
        },
    )


def restrict(
    pack: KnowledgePack,
    genes: Iterable[str] | None = None,
    proteins: Iterable[str] | None = None,
    pathways: Iterable[str] | None = None,
) -> KnowledgePack:
    """Restrict a pack to a study's panels; ``None`` keeps all of a kind.

    Old gene names are resolved; names that the pack does not know are left out. What is left is closed:
    relations, pathways and coding genes name only nodes that are still there. A name that was ambiguous
    stays ambiguous.
    """
    symbols = pack.symbols
    kept = pack.genes if genes is None else {symbols.resolve(name) for name in genes} - {None}
    named = None if proteins is None else set(proteins)
    listed = None if pathways is None else set(pathways)
    return KnowledgePack.assemble(
        [gene for gene in pack.genes if gene in kept],
        [protein for protein in pack.proteins if named is None or protein.name in named],
        pack.metabolites,
        pack.relations,
        {name: pack.pathways[name] for name in pack.pathways if listed is None or name in listed},
        pack.aliases,
        pack.sources,
        pack.references,
    )
