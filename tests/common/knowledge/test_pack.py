"""Knowledge packs: one file, one hash, whatever the order in which things were put in."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfed_common.contract import KnowledgeReference
from mmfed_common.errors import ModelError
from mmfed_common.knowledge import KnowledgePack, Pair, Protein, Source, SymbolTable, restrict
from mmfed_common.topology import PROTEIN_INTERACTS, REGULATES

GENES = st.sampled_from(["AKT1", "EGFR", "MYC", "TP53", "VEGFA"])
PROTEINS = st.sampled_from(["Akt", "Akt_pS473", "EGFR", "p53"])
WEIGHTS = st.sampled_from([-1.0, 0.0, 0.7, 1.0])


def pairs(names: st.SearchStrategy[str]) -> st.SearchStrategy[list[Pair]]:
    return st.lists(st.builds(Pair, names, names, WEIGHTS, st.sampled_from(["STRING", "TRRUST"])))


@st.composite
def packs(draw: st.DrawFn) -> KnowledgePack:
    genes = draw(st.sets(GENES))
    other = draw(st.lists(st.tuples(st.sampled_from(["old", "MYC", "PKB"]), GENES)))
    return KnowledgePack.assemble(
        genes,
        draw(st.lists(st.builds(Protein, PROTEINS, st.lists(GENES, max_size=2).map(tuple)))),
        draw(st.sets(st.sampled_from(["lactate", "citrate"]))),
        {REGULATES: draw(pairs(GENES)), PROTEIN_INTERACTS: draw(pairs(PROTEINS))},
        draw(st.dictionaries(st.sampled_from(["P1", "P2", "P3"]), st.sets(GENES))),
        SymbolTable.build({"AKT1", "EGFR", "MYC", "TP53", "VEGFA"}, other).aliases,
        [Source("STRING", "12.0", "CC BY 4.0", "links.gz", "0" * 64, 10, 2)],
    )


SMALL = KnowledgePack.assemble(
    ["TP53", "MYC"], relations={REGULATES: [Pair("MYC", "TP53", 1, "TRRUST")]}, pathways={"P": ["MYC"]}
)


@given(packs())
@settings(max_examples=60, deadline=None)
def test_a_saved_pack_comes_back_the_same(pack: KnowledgePack) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.pack.gz"
        pack.save(path)
        loaded = KnowledgePack.load(path)
        assert loaded == pack
        assert loaded.sha256 == pack.sha256
        again = Path(folder) / "b.pack.gz"
        loaded.save(again)
        assert again.read_bytes() == path.read_bytes()
        assert sorted(p.name for p in Path(folder).iterdir()) == ["a.pack.gz", "b.pack.gz"]


@given(packs(), st.sets(GENES | st.just("old")), st.sets(PROTEINS), st.sets(st.sampled_from(["P1", "P2"])))
@settings(max_examples=100, deadline=None)
def test_restricting_is_idempotent_and_closed(
    pack: KnowledgePack, genes: set[str], proteins: set[str], pathways: set[str]
) -> None:
    once = restrict(pack, genes, proteins, pathways)
    assert restrict(once, genes, proteins, pathways) == once
    assert set(once.genes) == {pack.symbols.resolve(name) for name in genes} - {None}
    assert {p.name for p in once.proteins} == {p.name for p in pack.proteins} & proteins
    names = {"gene": set(once.genes), "protein": {p.name for p in once.proteins}}
    for relation, kept in once.relations.items():
        inside = [p for p in pack.relations[relation] if {p.source, p.target} <= names[relation[0]]]
        assert list(kept) == inside
    assert all(set(p.genes) <= names["gene"] for p in once.proteins)
    assert all(members and set(members) <= names["gene"] for members in once.pathways.values())
    for name in pack.aliases:
        if once.symbols.resolve(name) is not None:
            assert once.symbols.resolve(name) == pack.symbols.resolve(name)


def test_restricting_nothing_changes_nothing() -> None:
    assert restrict(SMALL) == SMALL


def test_an_ambiguous_name_stays_ambiguous_when_one_of_its_genes_goes() -> None:
    aliases = SymbolTable.build(
        ["RELA", "TXN", "MYC"], [("p65", "RELA"), ("p65", "TXN"), ("TXN", "MYC")]
    ).aliases
    pack = KnowledgePack.assemble(["RELA", "TXN", "MYC"], aliases=aliases)
    assert restrict(pack, ["RELA"]).symbols.resolve("p65") is None
    # TXN is approved, of a gene that is no longer there: it must not turn into MYC, whose old name it is too.
    assert restrict(pack, ["MYC"]).symbols.resolve("TXN") is None


def test_the_order_of_what_goes_in_does_not_matter() -> None:
    pairs_ = [
        Pair("A", "B", 0.5, "s"),
        Pair("A", "B", 0.9, "s"),
        Pair("B", "A", 1, "t"),
        Pair("A", "A", 1, "t"),
    ]
    first = KnowledgePack.assemble("ABC", relations={REGULATES: pairs_}, pathways={"P": "AB", "Q": "C"})
    second = KnowledgePack.assemble(
        "CBA", relations={REGULATES: pairs_[::-1]}, pathways={"Q": "C", "P": "BA"}
    )
    assert first == second
    assert first.relations[REGULATES] == (Pair("A", "B", 0.9, "s"), Pair("B", "A", 1.0, "t"))


def test_the_hash_of_a_pack_is_fixed() -> None:
    # sha256 of the canonical JSON, recomputed here from the documented form.
    content = (
        '{"aliases":{},"genes":["MYC","TP53"],"metabolites":[],"pathways":{"P":["MYC"]},"proteins":[],'
        '"relations":[[["gene","interacts_with","gene"],[["MYC","TP53",1.0,"TRRUST"]]]],"sources":[]}'
    )
    assert SMALL.sha256 == hashlib.sha256(content.encode()).hexdigest()


def test_another_pack_than_the_study_names_is_refused_with_its_hash(tmp_path: Path) -> None:
    SMALL.save(tmp_path / "k.pack.gz")
    right = KnowledgeReference(file="k.pack.gz", sha256=SMALL.sha256)
    assert KnowledgePack.load_for(right, tmp_path) == SMALL
    with pytest.raises(ModelError) as raised:
        KnowledgePack.load_for(KnowledgeReference(file="k.pack.gz", sha256="0" * 64), tmp_path)
    assert raised.value.code == "MMF-602"
    assert SMALL.sha256 in raised.value.what


@pytest.mark.parametrize(
    "damage", ["truncated", "bit", "edited", "text", "empty", "format", "extra", "uncanonical"]
)
def test_a_damaged_pack_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "k.pack.gz"
    SMALL.save(path)
    whole = path.read_bytes()
    header, content = gzip.decompress(whole).split(b"\n")[:2]
    named = json.loads(header)
    swapped = content.replace(b'["MYC","TP53"]', b'["TP53","MYC"]')
    rehashed = json.dumps({**named, "sha256": hashlib.sha256(swapped).hexdigest()}).encode()
    other = json.dumps({**named, "format": "mmfed-knowledge/9"}).encode()
    broken = {
        "truncated": whole[:-9],
        "bit": whole[:40] + bytes([whole[40] ^ 1]) + whole[41:],
        "edited": gzip.compress(header + b"\n" + content.replace(b"TRRUST", b"TRRUSS") + b"\n"),
        "text": b"gene,weight\n",
        "empty": b"",
        "format": gzip.compress(other + b"\n" + content + b"\n"),
        "extra": gzip.compress(header + b"\n" + content + b"\nmore"),
        "uncanonical": gzip.compress(rehashed + b"\n" + swapped + b"\n"),
    }
    path.write_bytes(broken[damage])
    with pytest.raises(ModelError) as raised:
        KnowledgePack.load(path)
    assert raised.value.code == "MMF-603"


def test_a_missing_pack_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as raised:
        KnowledgePack.load(tmp_path / "none.gz")
    assert raised.value.code == "MMF-601"
