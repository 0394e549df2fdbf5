"""``mmfed-simulate knowledge``: build a knowledge pack, or show what one holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mmfed_common.knowledge import KnowledgePack, Source
from mmfed_simulations.knowledge.build import GeneEdges, PackSettings, Proteins, build_pack
from mmfed_simulations.knowledge.column_names import Combination, column_names
from mmfed_simulations.knowledge.pathways import ReactomeLevel
from mmfed_simulations.knowledge.source_files import choose_sources
from mmfed_simulations.knowledge.summary import pack_as_json, pack_tables

app = typer.Typer(no_args_is_help=True, help="Knowledge packs: genes, proteins, pathways, their relations.")

NONE = "none"


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="The pack to write, e.g. hallmark.pack.gz.")],
    tables: Annotated[
        Path | None, typer.Option(help="A folder of source files; known ones are used.")
    ] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(help="A source file as its owner publishes it: HGNC, STRING, Reactome, TRRUST, GMT …"),
    ] = None,
    pathways: Annotated[
        list[str] | None,
        typer.Option(help="A GMT file, part of the name of one (hallmark, reactome), or none. Repeatable."),
    ] = None,
    regulation: Annotated[
        list[str] | None, typer.Option(help="trrust (default), dorothea (academic use only) or none.")
    ] = None,
    source_version: Annotated[
        list[str] | None,
        typer.Option(
            help="OWNER=VERSION for a file that does not state it, e.g. HGNC=2024-07-23. Repeatable."
        ),
    ] = None,
    genes_from: Annotated[
        list[Path] | None, typer.Option(help="Keep only genes that are columns of this table. Repeatable.")
    ] = None,
    proteins_from: Annotated[
        list[Path] | None, typer.Option(help="Keep only proteins that are columns of this table. Repeatable.")
    ] = None,
    columns_in: Annotated[
        Combination, typer.Option(help="Of several tables, keep columns that are in all of them or in any.")
    ] = "all",
    genes_in_pathways: Annotated[
        bool, typer.Option("--genes-in-pathways", help="Keep only genes of the gene sets that are read.")
    ] = False,
    proteins: Annotated[Proteins, typer.Option(help="Which proteins become nodes.")] = "antibodies",
    gene_edges: Annotated[GeneEdges, typer.Option(help="Which relation links genes.")] = "regulatory",
    least_score: Annotated[float, typer.Option(min=0, max=1000, help="Least STRING combined score.")] = 700.0,
    most_edges: Annotated[int, typer.Option(min=0, help="Most interactions of one gene; 0: no limit.")] = 10,
    least_genes: Annotated[int, typer.Option(min=1, help="Least genes of a pathway.")] = 3,
    most_genes: Annotated[int, typer.Option(min=0, help="Most genes of a pathway; 0: no limit.")] = 0,
    reactome_level: Annotated[
        ReactomeLevel, typer.Option(help="All Reactome pathways, the top ones, or those without parts.")
    ] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Build a pack from source files and print what it holds and its hash.

    The hash goes into the study, as `sha256` of its section contract.knowledge.

    Examples:

        mmfed-simulate knowledge build --tables downloads --pathways hallmark --out hallmark.mmfk
    """
    chosen = choose_sources(
        tables,
        source or [],
        None if pathways is None else [name for name in pathways if name != NONE],
        [name for name in regulation or ["trrust"] if name != NONE],
        _versions(source_version or []),
    )
    settings = PackSettings(
        genes=column_names(genes_from or [], columns_in),
        proteins_named=column_names(proteins_from or [], columns_in),
        genes_in_pathways=genes_in_pathways,
        least_score=least_score,
        most_edges=most_edges or None,
        gene_edges=gene_edges,
        proteins=proteins,
        least_genes=least_genes,
        most_genes=most_genes or None,
        reactome_level=reactome_level,
    )
    _print(build_pack(chosen, out, settings), as_json)


@app.command()
def show(
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="A knowledge pack (.mmfk).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify a pack and print what it holds, where that came from, and its hash.

    Examples:

        mmfed-simulate knowledge show hallmark.mmfk
    """
    _print(KnowledgePack.load(pack), as_json)


@app.command()
def reference(
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="The knowledge pack to add to.")],
    study: Annotated[Path, typer.Option(help="The study whose contract says how the tables are read.")],
    cohort: Annotated[
        list[Path], typer.Option(help="Folder of a public cohort, with cohort.toml. Repeatable.")
    ],
    out: Annotated[Path, typer.Option(help="The pack to write.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Where the tables of each --cohort lie, in the same order, if not beside it."),
    ] = None,
    of: Annotated[
        list[str] | None,
        typer.Option(help="gene (default), protein, metabolite or imaging_feature. Repeatable."),
    ] = None,
    name: Annotated[str, typer.Option(help="What to call the source.")] = "reference cohorts",
    licence: Annotated[str, typer.Option(help="Its licence.")] = "unknown",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add means and deviations of features in public cohorts, for `normalisation = "reference"`.

    A study that standardises with them asks no site about its patients: under differential privacy nothing
    has to be paid for it. Clinical columns have their reference values in the study itself: for each that the
    cohorts have, two keys are printed, to be added to the column's section.

    Examples:

        mmfed-simulate knowledge reference hallmark.mmfk --study LUAD/study.toml --cohort BRCA --cohort KIRC
            --data tables/BRCA --data tables/KIRC --out hallmark-reference.mmfk
    """
    from mmfed_common.study import Study
    from mmfed_simulations.knowledge.clinical_reference import clinical_references
    from mmfed_simulations.knowledge.reference import SECTIONS, with_references

    if data is not None and len(data) != len(cohort):
        raise typer.BadParameter("give one for each --cohort", param_hint="--data")
    unknown = sorted(set(of or ()) - set(SECTIONS))
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(SECTIONS)}", param_hint="--of")
    tables: Sequence[Path | None] = data or [None] * len(cohort)
    places = list(zip(cohort, tables, strict=True))
    source = Source(name, "unknown", licence, ", ".join(folder.name for folder in cohort), "")
    read_by = Study.load(study)
    found = with_references(KnowledgePack.load(pack), read_by, places, of or ["gene"], source)
    found.save(out)
    clinical = clinical_references(read_by, places)
    _print(found, as_json, {"clinical": [asdict(one) for one in clinical]})
    if clinical and not as_json:
        typer.echo("Add these two keys to each column's section in the study:\n")
        typer.echo("\n".join(one.toml() for one in clinical))


def _versions(stated: Sequence[str]) -> dict[str, str]:
    versions: dict[str, str] = {}
    for text in stated:
        owner, equals, version = text.partition("=")
        if not (owner and equals and version):
            raise typer.BadParameter(f"{text!r} is not OWNER=VERSION", param_hint="--source-version")
        versions[owner] = version
    return versions


def _print(pack: KnowledgePack, as_json: bool, more: Mapping[str, Any] | None = None) -> None:
    """Print a pack for people, or as JSON with what else there is to tell."""
    if as_json:
        typer.echo(json.dumps(pack_as_json(pack) | dict(more or {}), indent=2, ensure_ascii=False))
        return
    console = Console()
    console.print(f"sha256 {pack.sha256}", soft_wrap=True, highlight=False)
    for table in pack_tables(pack):
        console.print(table)
