"""``mmfed-simulate cohort``: write a cohort to try things on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mmfed_common.command_line.output import AsJson, print_json, progress_bar, stdout
from mmfed_simulations.synthetic.settings import SyntheticSettings, settings_from

DEFAULT = SyntheticSettings()


class CohortSource(StrEnum):
    """Where the patients come from."""

    synthetic = "synthetic"
    lung = "lung"


def cohort(
    out: Annotated[Path, typer.Option(help="New or empty folder to write to.")],
    source: Annotated[
        CohortSource,
        typer.Option(
            help="synthetic: made up, every modality, planted truth. lung: NCCTG lung cancer, real."
        ),
    ] = CohortSource.synthetic,
    sites: Annotated[int, typer.Option(min=1, help="Sites, of different size.")] = DEFAULT.sites,
    patients: Annotated[int, typer.Option(min=2, help="Patients of all sites together.")] = DEFAULT.patients,
    genes: Annotated[int, typer.Option(min=1)] = DEFAULT.genes,
    proteins: Annotated[int, typer.Option(min=1)] = DEFAULT.proteins,
    metabolites: Annotated[int, typer.Option(min=1)] = DEFAULT.metabolites,
    imaging_features: Annotated[int, typer.Option(min=1)] = DEFAULT.imaging_features,
    tiles: Annotated[int, typer.Option(min=1, help="Most imaging tiles of one patient.")] = DEFAULT.tiles,
    pathways: Annotated[int, typer.Option(min=1)] = DEFAULT.pathways,
    planted_genes: Annotated[
        int, typer.Option(min=1, help="Genes with an effect on survival.")
    ] = DEFAULT.planted_genes,
    planted_pathways: Annotated[
        int, typer.Option(min=1, help="Pathways those genes belong to.")
    ] = DEFAULT.planted_pathways,
    missing: Annotated[
        float, typer.Option(min=0, max=0.9, help="About how often a patient, or a site, lacks a modality.")
    ] = DEFAULT.missing,
    values_missing: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of single values that are missing.")
    ] = DEFAULT.values_missing,
    batch_effect: Annotated[
        float, typer.Option(min=0, help="Shift between sites, in standard deviations.")
    ] = DEFAULT.batch_effect,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same tables.")] = DEFAULT.seed,
    as_json: AsJson = False,
) -> None:
    """Write cohorts, and a study for them, to try things on.

    Without --source it makes a consortium up: one folder a site, a knowledge pack, study.toml, and the truth
    that was planted (truth.json, truth.parquet).

    Examples:

        mmfed-simulate cohort --out demo/synthetic
        mmfed-simulate cohort --out demo/small --sites 4 --patients 200 --seed 7
        mmfed-simulate cohort --source lung --out demo/lung
    """
    if source is CohortSource.lung:
        from mmfed_simulations.sources import write_lung

        written = write_lung(out)
    else:
        settings = settings_from(
            sites=sites,
            patients=patients,
            genes=genes,
            proteins=proteins,
            metabolites=metabolites,
            imaging_features=imaging_features,
            tiles=tiles,
            pathways=pathways,
            planted_genes=planted_genes,
            planted_pathways=planted_pathways,
            missing=missing,
            values_missing=values_missing,
            batch_effect=batch_effect,
            seed=seed,
        )
        written = _write_synthetic(settings, out)
    if as_json:
        print_json(written)
    else:
        _print(written)


def _write_synthetic(settings: SyntheticSettings, out: Path) -> dict[str, Any]:
    from mmfed_simulations.synthetic import make_consortium, write_consortium

    with progress_bar() as bar:
        task = bar.add_task("writing sites", total=settings.sites)
        return write_consortium(make_consortium(settings), out, progress=lambda _: bar.advance(task))


def _print(written: dict[str, Any]) -> None:
    console = stdout()
    table = Table(title=f"{sum(s['patients'] for s in written['sites'])} patients", title_justify="left")
    table.add_column("site")
    table.add_column("patients", justify="right")
    table.add_column("events", justify="right")
    table.add_column("lacks")
    for site in written["sites"]:
        table.add_row(site["site"], str(site["patients"]), str(site["events"]), ", ".join(site["lacks"]))
    console.print(table)
    if "c_index_of_planted_risk" in written:
        console.print(f"C-index of the planted risk: {written['c_index_of_planted_risk']:.3f}")
    if "origin" in written:
        console.print(f"Origin: {written['origin']}", markup=False)
    console.print(f"Study: {written['study']}", markup=False)
