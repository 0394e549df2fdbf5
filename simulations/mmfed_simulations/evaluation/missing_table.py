"""What missing modalities cost, as tables: of one cohort for a terminal, of several for a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from mmfed_common.model_card import format_estimate, metric_name
from mmfed_simulations.evaluation.arm_names import MODALITIES
from mmfed_simulations.evaluation.table import two_lines

Results = Mapping[str, Any]
"""What ``missing.json`` holds; see :func:`.missing.missing`."""
WITHOUT_OMICS_AIM, TRAINING_AIM, TRAINING_SHARE = 0.015, 0.01, 0.6
"""What omics that are absent at test, and such a share of gaps in training, may cost in C-index."""

HOW = (
    "Brackets, or the line below a figure: its 95 % bootstrap interval over patients, resampled in folds, "
    "fitted models fixed. Costs are paired, on identical held-out patients, and above 0 where something is "
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
    return f"{_about(results)} {HOW}"


def _about(results: Results) -> str:
    have = ", ".join(f"{MODALITIES[m['name']]} {m['patients']}" for m in results["modalities"])
    text = f"{results['held_out']} Of {results['modalities'][0]['of']} patients have: {have}."
    if results["draws"] > 1:
        text += f" Gaps in training: mean of {results['draws']} draws of who loses what, bounds too."
    return text


def missing_figures(results_by_cohort: Mapping[str, Results]) -> dict[str, Any]:
    """Two figures of several cohorts: omics absent at test, and gaps in training.

    Parameters
    ----------
    results_by_cohort
        Cohort → what its ``missing.json`` holds.

    Returns
    -------
    JSON-able: ``cohorts`` as given; for survival ``without_omics`` and ``training`` (at 60 %), each with
    ``cohorts`` (name → cost, of those where it was measured), ``mean`` over them and ``aim``. The interval
    of the mean takes cohorts as independent (Zou and Donner 2008, doi:10.1002/sim.3095).
    """
    omics: dict[str, Any] = {}
    training: dict[str, Any] = {}
    for name, results in results_by_cohort.items():
        for row in results["rows"]:
            if row["task"] != "survival":
                continue
            if row["shown"] == results["without_omics"] and row["cost"] is not None:
                omics[name] = row["cost"]
            whole = len(row["shown"]) == len(results["modalities"])
            gaps = [entry for entry in row["training"] if entry["share"] == TRAINING_SHARE]
            if whole and gaps:
                training[name] = gaps[0]["cost"] | {"spread": gaps[0]["spread"]}
    return {
        "cohorts": dict(results_by_cohort),
        "without_omics": {"cohorts": omics, "mean": _mean(omics), "aim": WITHOUT_OMICS_AIM},
        "training": {
            "cohorts": training,
            "mean": _mean(training),
            "aim": TRAINING_AIM,
            "share": TRAINING_SHARE,
        },
    }


def _mean(costs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean over independent cohorts, its interval recovered from theirs."""
    known = [cost for cost in costs.values() if cost["estimate"] is not None and cost["low"] is not None]
    if not known:
        return {"estimate": None, "low": None, "high": None}
    count = len(known)
    mean = sum(cost["estimate"] for cost in known) / count
    below = math.sqrt(sum((cost["estimate"] - cost["low"]) ** 2 for cost in known)) / count
    above = math.sqrt(sum((cost["high"] - cost["estimate"]) ** 2 for cost in known)) / count
    return {"estimate": mean, "low": mean - below, "high": mean + above}


def missing_text(figures: Mapping[str, Any]) -> str:
    """A page in Markdown of what :func:`missing_figures` gave: what was aimed at, and every table."""
    training = figures["training"]
    lines = [
        "# Missing modalities",
        "",
        "    mmfed-simulate missing STUDY --cohort DIR --out OUT",
        "",
        "What it costs, in C-index, that patients lack a modality: at test, and in training.",
        "",
        "| | omics absent at test, against a model trained without them | "
        f"{training['share']:.0%} missing in training, against none |",
        "|---|---|---|",
    ]
    parts = (figures["without_omics"], training)
    for name in figures["cohorts"]:
        cells = [_with_spread(part["cohorts"].get(name)) for part in parts]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append(f"| **mean** | {' | '.join(_cell(part['mean']) for part in parts)} |")
    aims = [f"at most {part['aim']:.3f}" for part in parts]
    lines.append(f"| aim | {' | '.join(aims)} |")
    lines.append(f"| reached | {' | '.join(_reached(part) for part in parts)} |")
    lines += ["", HOW, "", "The interval of the mean takes the cohorts as independent."]
    for name, results in figures["cohorts"].items():
        lines += ["", f"## {name}", "", _about(results)]
        for task in dict.fromkeys(row["task"] for row in results["rows"]):
            lines += ["", *_markdown(results, task)]
    return "\n".join(lines) + "\n"


def _reached(part: Mapping[str, Any]) -> str:
    mean = part["mean"]
    if mean["estimate"] is None:
        return "–"
    if mean["high"] <= part["aim"]:
        return "yes, with the whole interval"
    return "yes, its interval is wider" if mean["estimate"] <= part["aim"] else "no"


def _markdown(results: Results, task: str) -> list[str]:
    rows = [row for row in results["rows"] if row["task"] == task]
    gaps = [f"{share:.0%} missing in training: cost" for share in results["shares"]]
    headings = ["shown at test", "trained on all", "trained on these alone", "cost of hiding the rest", *gaps]
    lines = [f"{task}, {metric_name(rows[0]['metric'])}:", "", f"| {' | '.join(headings)} |"]
    lines.append("|" + "---|" * len(headings))
    for row in rows:
        cells = [shown_label(row["shown"]), _plain(row["figure"]), _plain(row["only"]), _cell(row["cost"])]
        cells += [_cell(entry["cost"]) for entry in row["training"]]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(cost: Mapping[str, Any] | None) -> str:
    return "" if cost is None else format_estimate(cost, signed=True)


def _with_spread(cost: Mapping[str, Any] | None) -> str:
    if cost is None or cost.get("spread") is None:
        return _cell(cost)
    return f"{_cell(cost)}, sd over draws {cost['spread']:.3f}"


def _plain(figure: Mapping[str, Any] | None) -> str:
    return "" if figure is None else format_estimate(figure)
