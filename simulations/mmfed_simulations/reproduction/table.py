"""The tables of a reproduction, for a terminal or a text file."""

from __future__ import annotations

from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table

from mmfed_common.model_card import metric_name
from mmfed_simulations.evaluation.table import two_lines
from mmfed_simulations.reproduction.benchmarks import Loaded
from mmfed_simulations.reproduction.methods import LABELS
from mmfed_simulations.reproduction.trials import Figures, Reproduction

EXPLANATION = (
    "Below each figure its 95 % bootstrap interval over patients, fitted models fixed, mean over the trials. "
    "sd: over seeds, or over partitions. Mean of sites: of the figure within each site, where it is defined "
    "there. IBS, the integrated Brier score: lower is better. "
    "Published: FLamby's figures, mean ± sd over its five seeds."
)


def tables(loaded: Loaded, found: Reproduction) -> list[Table]:
    """The published split with the published figures, and repeated cross-validation."""
    name, folds = loaded.benchmark.name, loaded.study.evaluation.folds
    split = _table(loaded, f"{name}: the published split", "published", "published,\nmean of sites")
    for row in found.split:
        split.add_row(*_cells(loaded, row), *_published(found.published[row.method]))
    if not found.partitions:
        return [split]
    repeated = _table(loaded, f"{name}: cross-validation with {folds} folds, repeated")
    for row in found.partitions:
        repeated.add_row(*_cells(loaded, row))
    return [split, repeated]


def text(loaded: Loaded, found: Reproduction, width: int = 170) -> str:
    """The tables as plain text, with what explains them."""
    out = StringIO()
    console = Console(file=out, width=width, no_color=True, highlight=False)
    for table in tables(loaded, found):
        console.print(table)
        console.print()
    console.print(EXPLANATION, markup=False)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _table(loaded: Loaded, title: str, *more: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("method", no_wrap=True)
    ibs = ["IBS,\nmean of sites"] if loaded.benchmark.task == "survival" else []
    metric = metric_name(loaded.benchmark.metric)
    for heading in (metric, "sd", "mean of sites", *ibs, "− pooled", *more):
        table.add_column(heading, justify="right")
    return table


def _cells(loaded: Loaded, row: Figures) -> list[str]:
    ibs = [_plain(row.ibs)] if loaded.benchmark.task == "survival" else []
    difference = "" if row.method == "pooled" else two_lines(row.difference.as_dict(), "+")
    figure = two_lines(row.figure.as_dict())
    return [LABELS[row.method], figure, _plain(row.spread), _plain(row.sites_mean), *ibs, difference]


def _published(figures: dict[str, float]) -> list[str]:
    if not figures:
        return ["", ""]
    return [f"{figures['pooled']:.3f} ± {figures['deviation']:.3f}", _plain(figures["sites"])]


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
