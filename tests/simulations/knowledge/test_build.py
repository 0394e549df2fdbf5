"""Packs from files as their owners publish them, small enough to check by hand."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mmfed_common.errors import ModelError
from mmfed_common.knowledge import KnowledgePack, Pair, Protein
from mmfed_common.topology import PROTEIN_INTERACTS, REGULATES
from mmfed_simulations.knowledge import PackSettings, build_pack, choose_sources

Files = dict[str, Path]


def build(files: Files, settings: PackSettings | None = None, **choice: tuple[str, ...]) -> KnowledgePack:
    return build_pack(choose_sources(None, list(files.values()), **choice), None, settings)


def gene_pairs(pack: KnowledgePack) -> set[tuple[str, str]]:
    return {pair[:2] for pair in pack.relations[REGULATES]}


def protein_pairs(pack: KnowledgePack) -> set[tuple[str, str]]:
    return {pair[:2] for pair in pack.relations[PROTEIN_INTERACTS]}


def both_ways(*pairs: tuple[str, str]) -> set[tuple[str, str]]:
    return {*pairs, *((b, a) for a, b in pairs)}


def test_everything_that_the_files_say(published: Files, tmp_path: Path) -> None:
    out = tmp_path / "k.pack.gz"
    pack = build_pack(choose_sources(None, list(published.values())), out)
    assert KnowledgePack.load(out) == pack
    assert pack.genes == ("ADSS2", "AKT1", "AKT2", "HOTAIR", "MYC", "TP53")
    assert pack.symbols.resolve("ADSS") == "ADSS2"
    assert pack.symbols.resolve("p53") == "TP53"
    assert pack.symbols.resolve("RAC") is None, "two genes have this alias"
    assert pack.symbols.resolve("GONE") is None
    assert pack.relations[REGULATES] == (
        Pair("MYC", "ADSS2", 0.0, "TRRUST"),
        Pair("MYC", "TP53", 1.0, "TRRUST"),
        Pair("TP53", "AKT1", 0.0, "TRRUST"),
        Pair("TP53", "MYC", -1.0, "TRRUST"),
    )
    assert pack.proteins == (
        Protein("Akt", ("AKT1", "AKT2")),
        Protein("Akt_pS473", ("AKT1", "AKT2")),
        Protein("XPB1", ()),
        Protein("p53", ("TP53",)),
    )
    assert protein_pairs(pack) == both_ways(("Akt", "p53"), ("Akt_pS473", "p53"))
    assert {pair.weight for pair in pack.relations[PROTEIN_INTERACTS]} == {0.99}
    assert pack.pathways == {
        "Apoptosis": ("AKT1", "AKT2", "MYC", "TP53"),
        "Intrinsic apoptosis": ("AKT1", "MYC", "TP53"),
        "Other": ("ADSS2", "AKT2", "MYC"),
        "Other (R-HSA-4)": ("HOTAIR", "MYC", "TP53"),
    }


def test_sources_are_named_with_version_licence_and_hash(published: Files) -> None:
    sources = {source.file: source for source in build(published).sources}
    links = sources["9606.protein.links.v12.0.txt.gz"]
    assert (links.name, links.version, links.licence) == ("STRING", "12.0", "CC BY 4.0")
    assert (links.entries, links.unresolved) == (12, 2)
    assert links.sha256 == hashlib.sha256(published["links"].read_bytes()).hexdigest()
    assert sources["hgnc_complete_set.txt"].version == "2024-03-03", "the date of its latest change"
    assert sources["ReactomePathways.gmt"].licence == "CC0"
    assert (sources["ReactomePathways.gmt"].entries, sources["ReactomePathways.gmt"].unresolved) == (14, 1)
    assert sources["trrust_rawdata.human.tsv"].unresolved == 1
    assert "ReactomePathwaysRelation.txt" not in sources, "it was not needed"


def test_a_stated_version_is_kept(published: Files) -> None:
    chosen = choose_sources(None, list(published.values()), versions={"Reactome": "R85"})
    assert {s.version for s in chosen if s.name == "Reactome"} == {"R85"}


def test_the_same_files_give_the_same_bytes(published: Files, tmp_path: Path) -> None:
    chosen = choose_sources(None, list(published.values()))
    build_pack(chosen, tmp_path / "a.pack.gz")
    build_pack(chosen[::-1], tmp_path / "b.pack.gz")
    assert (tmp_path / "a.pack.gz").read_bytes() == (tmp_path / "b.pack.gz").read_bytes()


def test_genes_that_are_asked_for_by_old_names(published: Files) -> None:
    pack = build(published, PackSettings(genes=frozenset({"ADSS", "MYC", "AKT2", "patient_id"})))
    assert pack.genes == ("ADSS2", "AKT2", "MYC")
    assert gene_pairs(pack) == {("MYC", "ADSS2")}
    assert pack.pathways == {"Other": ("ADSS2", "AKT2", "MYC")}
    assert protein_pairs(pack) == both_ways(("Akt", "p53"), ("Akt_pS473", "p53")), (
        "proteins are still measured"
    )


@pytest.mark.parametrize(
    ("most", "least", "expected"),
    [
        (None, 700.0, both_ways(("AKT1", "TP53"), ("MYC", "TP53"), ("AKT2", "TP53"), ("ADSS2", "MYC"))),
        (2, 700.0, both_ways(("AKT1", "TP53"), ("MYC", "TP53"), ("ADSS2", "MYC"))),
        (1, 700.0, both_ways(("AKT1", "TP53"), ("ADSS2", "MYC"))),
        (None, 900.0, both_ways(("AKT1", "TP53"), ("MYC", "TP53"))),
    ],
)
def test_scores_and_the_most_edges_of_a_gene(
    published: Files, most: int | None, least: float, expected: set[tuple[str, str]]
) -> None:
    pack = build(published, PackSettings(gene_edges="interactions", most_edges=most, least_score=least))
    assert gene_pairs(pack) == expected


def test_gene_edges_of_both_kinds(published: Files) -> None:
    regulatory = gene_pairs(build(published))
    interactions = gene_pairs(build(published, PackSettings(gene_edges="interactions")))
    assert gene_pairs(build(published, PackSettings(gene_edges="both"))) == regulatory | interactions


def test_plain_proteins_by_gene_symbol(published: Files) -> None:
    pack = build(published, PackSettings(proteins="genes"))
    assert [p.name for p in pack.proteins] == ["ADSS2", "AKT1", "AKT2", "MYC", "TP53"], (
        "HOTAIR codes for none"
    )
    expected = both_ways(("AKT1", "TP53"), ("MYC", "TP53"), ("AKT2", "TP53"), ("ADSS2", "MYC"))
    assert protein_pairs(pack) == expected
    assert len(build(published, PackSettings(proteins="both")).proteins) == 4 + 5
    assert not build(published, PackSettings(proteins="none")).proteins
    named = PackSettings(proteins_named=frozenset({"p53", "Akt", "other"}))
    assert [p.name for p in build(published, named).proteins] == ["Akt", "p53"]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("top", {"Apoptosis", "Other", "Other (R-HSA-4)"}),
        ("lowest", {"Intrinsic apoptosis", "Other", "Other (R-HSA-4)"}),
    ],
)
def test_levels_of_the_reactome_hierarchy(published: Files, level: str, expected: set[str]) -> None:
    pack = build(published, PackSettings(reactome_level=level))  # type: ignore[arg-type]
    assert set(pack.pathways) == expected


def test_sizes_of_pathways(published: Files) -> None:
    assert set(build(published, PackSettings(least_genes=4)).pathways) == {"Apoptosis"}
    assert "Apoptosis" not in build(published, PackSettings(most_genes=3)).pathways


def test_pathways_by_name_by_path_or_not_at_all(published: Files, tmp_path: Path) -> None:
    own = tmp_path / "own.gmt"
    own.write_text("MINE\tna\tMYC\tp53\tAKT1\n")
    assert set(build(published, pathways=(str(own),)).pathways) == {"MINE"}
    assert len(build({**published, "own": own}).pathways) == 5
    assert set(build({**published, "own": own}, pathways=("own",)).pathways) == {"MINE"}
    assert build(published, pathways=()).pathways == {}
    with pytest.raises(ModelError, match="ReactomePathways") as raised:
        build(published, pathways=("kegg",))
    assert raised.value.code == "MMF-601"


def test_signs_of_two_regulation_sources_must_agree(published: Files, tmp_path: Path) -> None:
    table = tmp_path / "dorothea.csv"
    table.write_text("tf,confidence,target,mor\nMYC,A,TP53,-1.0\nMYC,A,ADSS,1.0\n")
    pack = build({**published, "dorothea": table}, regulation=("trrust", "dorothea"))
    found = {pair[:2]: pair[2:] for pair in pack.relations[REGULATES]}
    assert found[("MYC", "TP53")] == (0.0, "DoRothEA+TRRUST")
    assert found[("MYC", "ADSS2")] == (1.0, "DoRothEA+TRRUST")
    assert found[("TP53", "MYC")] == (-1.0, "TRRUST")
    assert build(published, regulation=()).relations[REGULATES] == ()


BROKEN = {
    "hgnc": ("hgnc_id\tsymbol\tname\nHGNC:1\tA1BG\tx\n", "date_modified"),
    "trrust": ("MYC\tTP53\tActivation\t1\nMYC\tTP53\n", "line 2"),
    "reactome": ("A\tR-HSA-1\tMYC\nB\n", "line 2"),
    "antibodies": ('antibody,genes\n"Akt,AKT1\n', "cannot be read"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_file_is_named_with_the_place(published: Files, name: str) -> None:
    text, words = BROKEN[name]
    published[name].write_text(text)
    with pytest.raises(ModelError, match=words) as raised:
        build(published)
    assert raised.value.code == "MMF-601"
    assert raised.value.where == str(published[name])


def test_broken_links(published: Files) -> None:
    whole = published["links"].read_bytes()
    published["links"].write_bytes(whole[:-20])
    with pytest.raises(ModelError) as raised:
        build(published)
    assert raised.value.code == "MMF-601"
    published["links"].write_bytes(whole)
    with pytest.raises(ModelError, match=r"protein\.info"):
        build({k: v for k, v in published.items() if k != "info"})


def test_what_is_not_knowledge_is_refused(published: Files, tmp_path: Path) -> None:
    other = tmp_path / "clinical.csv"
    other.write_text("patient_id,age\np1,60\n")
    for files in ({**published, "other": other}, {**published, "none": tmp_path / "none.txt"}):
        with pytest.raises(ModelError) as raised:
            build(files)
        assert raised.value.code == "MMF-601"
    with pytest.raises(ModelError, match="give the genes"):
        build({k: v for k, v in published.items() if k != "hgnc"})
    with pytest.raises(ModelError, match="none of the names"):
        build(published, PackSettings(genes=frozenset({"age"})))
    with pytest.raises(ModelError, match="collectri"):
        build(published, regulation=("collectri",))


def test_published_files_replace_the_tables_of_the_same_owner(published: Files, tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "gene_protein_map.csv").write_text(
        "gene,hgnc_symbol,uniprot\nADSS,ADSS2,P30520\nMYC,MYC,P01106\n"
    )
    (tables / "ppi.csv").write_text("a,b,combined_score\nMYC,ADSS2,905\n")
    (tables / "hallmark.gmt").write_text("H\tna\tMYC\n")
    (tables / "README.md").write_text("not a table")
    alone = build_pack(
        choose_sources(tables, []), None, PackSettings(gene_edges="interactions", least_genes=1)
    )
    assert alone.genes == ("ADSS2", "MYC")
    assert gene_pairs(alone) == both_ways(("ADSS2", "MYC"))
    assert alone.pathways == {"H": ("MYC",)}
    chosen = choose_sources(tables, [published["hgnc"]])
    assert {s.path.name for s in chosen} == {"hgnc_complete_set.txt", "ppi.csv", "hallmark.gmt"}
    assert chosen[0].kind == "hgnc"


def test_only_genes_of_the_gene_sets_are_kept_when_asked(published: Files) -> None:
    everything = build(published)
    kept = build(published, PackSettings(genes_in_pathways=True))
    members = {gene for genes in everything.pathways.values() for gene in genes}
    assert set(kept.genes) == members
    assert kept.pathways == everything.pathways
    few = build(published, PackSettings(genes_in_pathways=True, genes=frozenset({"TP53", "XIST", "MYC"})))
    assert set(few.genes) == members & {"TP53", "MYC"}
    with pytest.raises(ModelError, match="gene sets") as raised:
        build(published, PackSettings(genes_in_pathways=True), pathways=())
    assert raised.value.code == "MMF-601"
