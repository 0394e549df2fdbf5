"""What missing modalities cost, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from mmfed_common.model_card import metric_name
from mmfed_simulations.evaluation.arm_names import MODALITIES
from mmfed_simulations.evaluation.table import two_lines

Results = Mapping[str, Any]
"""What ``missing.json`` holds; see :func:`.missing.missing`."""

HOW = (
    "Below each figure its 95 % bootstrap interval over patients, resampled within folds, fitted models "
    "fixed. Costs are paired, on identical held-out patients, and above 0 where something is "
    "lost. Cost of hiding the rest: what the same model trained on these modalities alone is better by. Cost "
    "of a share missing in training: what the model trained without gaps is better by; each modality but the "
    "clinical one was taken from that share of the training patients, by a hash of seed, patient and "
    "modality, and from nobody held out. What is hidden looks as if it had never been measured."
)


def shown_label(shown: Sequence[str]) -> str:
    """A set of modalities as a reader sees it."""
    return " + ".join(MODALITIES[name] for name in shown)


def missing_tables(results: Results) -> list[Table]:
    """One table a task: a row for each subset at test, a column for each way of training."""
    tables = []
    for task in dict.fromkeys(row["task"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["task"] == task]
        title = f"{results['study']['name']}: {task}, {metric_name(rows[0]['metric'])}"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("shown at test", no_wrap=True)
        alone = any(row["only"] is not None for row in rows)
        headings = ["trained on all"]
        headings += ["trained on\nthese alone", "cost of\nhiding the rest"] if alone else []
        headings += [f"cost of {share:.0%}\nmissing in training" for share in results["shares"]]
        for heading in headings:
            table.add_column(heading, justify="right")
        for row in rows:
            cells = [two_lines(row["figure"])]
            cells += [two_lines(row["only"]), two_lines(row["cost"], "+")] if alone else []
            cells += [two_lines(entry["cost"], "+") for entry in row["training"]]
            table.add_row(shown_label(row["shown"]), *cells)
        tables.append(table)
    return tables


def missing_explanation(results: Results) -> str:
    """What stands under the tables."""
    have = ", ".join(f"{MODALITIES[m['name']]} {m['patients']}" for m in results["modalities"])
    text = f"{results['held_out']} Of {results['modalities'][0]['of']} patients have: {have}."
    if results["draws"] > 1:
        text += f" Gaps in training: mean of {results['draws']} draws of who loses what, bounds too."
    return f"{text} {HOW}"
