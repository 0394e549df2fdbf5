"""The result table of a run or comparison, for a terminal or a text file."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from mmfed_simulations.evaluation.arm_names import label

SHOWN: dict[str, tuple[str, ...]] = {
    "survival": ("c_index", "c_index_within_site", "uno_c", "ibs"),
    "response": ("auroc", "accuracy", "balanced_accuracy"),
    "toxicity": ("auroc_macro",),
}
"""Metrics of each task in the table; the first is the one that differences are shown of."""
TITLES: dict[str, str] = {
    "survival": "Overall survival",
    "response": "Treatment response",
    "toxicity": "Toxicity, grade 3 or more",
}
HEADINGS: dict[str, str] = {
    "c_index": "C-index",
    "c_index_within_site": "C within sites",
    "uno_c": "Uno's C",
    "ibs": "IBS",
    "auroc": "AUROC",
    "auroc_macro": "AUROC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
}
SHORT: dict[str, str] = {
    "cox_clinical": "Cox",
    "ridge_all": "ridge",
    "logistic_clinical": "logistic",
    "pooled": "pooled",
    "local": "local",
}


def result_tables(results: Mapping[str, Any]) -> list[Table]:
    """One table a task: figures with 95 % intervals, and paired differences from the reference arms."""
    tables = []
    for task, metrics in SHOWN.items():
        arms = {arm: tasks[task] for arm, tasks in results["arms"].items() if task in tasks}
        if not arms:
            continue
        first = metrics[0]
        references = _references(results, task, first)
        table = Table(
            title=f"{TITLES[task]}: {results['study']['name']}", title_justify="left", box=box.SIMPLE_HEAD
        )
        table.add_column("arm", no_wrap=True)
        for name in metrics:
            table.add_column(HEADINGS[name], justify="right")
        for other in references:
            heading = f"{HEADINGS[first]}\n− {SHORT.get(other, other)}"
            table.add_column(heading, justify="right")
        table.add_column("n" if task == "response" else "n\nevents", justify="right")
        for arm, figures in arms.items():
            row = [two_lines(figures.get(name)) for name in metrics]
            row += [two_lines(_difference(results, task, first, arm, other), "+") for other in references]
            count = str(figures[first]["n"])
            if figures[first]["events"] is not None:
                count += f"\n{figures[first]['events']}"
            table.add_row(label(arm), *row, count, style="bold" if arm == "federated" else "")
        tables.append(table)
    return tables


def start_table(started: Mapping[str, Any]) -> Table:
    """What a study took over from a released model, part by part, and what stays as it was.

    Parameters
    ----------
    started
        ``started_from`` of the results.
    """
    known = ", ".join(f"{found} of {total} {kind}" for kind, (found, total) in started["nodes"].items())
    table = Table(
        title=f"Started from {started['study']} ({started['bundle'][:12]}); known by name: {known}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("part")
    for name in ("numbers", "taken over", "begun anew"):
        table.add_column(name, justify="right")
    table.add_column("then")
    for row in started["parts"]:
        numbers, taken = row["numbers"], row["taken"]
        then = "stays" if row["frozen"] else "trains"
        table.add_row(row["part"], f"{numbers:,}", f"{taken:,}", f"{numbers - taken:,}", then)
    return table


def explanation(results: Mapping[str, Any]) -> str:
    """What stands under the tables."""
    text = (
        f"{results['held_out']} Below each figure its 95 % bootstrap interval over patients "
        f"({results['bootstrap']} resamples within folds, fitted models fixed). Differences are paired, on "
        "identical patients. IBS, the integrated Brier score: lower is better; all others: higher."
    )
    return "\n".join([text, *(f"- {note}" for note in results["notes"])])


def results_text(results: Mapping[str, Any], width: int = 150) -> str:
    """The same tables as plain text, with notes, for a file under version control."""
    out = StringIO()
    console = Console(file=out, width=width, no_color=True, highlight=False)
    for table in result_tables(results):
        console.print(table)
        console.print()
    console.print(explanation(results), markup=False)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _references(results: Mapping[str, Any], task: str, metric: str) -> list[str]:
    found = (r["second"] for r in results["paired"] if r["task"] == task and r["metric"] == metric)
    return list(dict.fromkeys(found))


def _difference(
    results: Mapping[str, Any], task: str, metric: str, arm: str, other: str
) -> Mapping[str, Any] | None:
    wanted = (task, metric, arm, other)
    for row in results["paired"]:
        if (row["task"], row["metric"], row["first"], row["second"]) == wanted:
            found: Mapping[str, Any] = row
            return found
    return None


def two_lines(figure: Mapping[str, Any] | None, sign: str = "") -> str:
    """A figure, and its interval below."""
    if figure is None:
        return ""
    if figure["estimate"] is None:
        return "–"
    text = _short(figure["estimate"], sign)
    if figure["low"] is None:
        return text
    return f"{text}\n{_short(figure['low'], sign)} {_short(figure['high'], sign)}"


def _short(value: float, sign: str) -> str:
    """Three decimals without the zero in front: ``.669``, ``+.022``."""
    text = f"{value:{sign}.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text
