"""What the federation is worth at each site, in words and as a table for a terminal or a text file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from mmfed_simulations.evaluation.arm_names import PERSONALISED
from mmfed_simulations.evaluation.hospital.scores import MAIN
from mmfed_simulations.evaluation.table import HEADINGS, TITLES, two_lines

COLUMNS: dict[str, str] = {"local": "alone", "federated": "federated", PERSONALISED: "own head"}
EVENTS: dict[str, str] = {
    "survival": "deaths",
    "response": "patients outside the commonest class",
    "toxicity": "patients with an event",
}
SHORT_EVENTS: dict[str, str] = {"survival": "deaths", "response": "not in largest", "toxicity": "with event"}
WHAT: dict[str, str] = {
    "federated-local": "the federated model is better than the site's own",
    f"{PERSONALISED}-federated": "the site's own head is better than the federated one",
    f"{PERSONALISED}-local": "the federated model with the site's own head is better than the site's own",
}


def worth_notes(worth: Mapping[str, Any]) -> list[str]:
    """Warnings: which sites' labels seem to be flipped, with the evidence and what to do."""
    return [f"Labels of {named['text']}" for named in worth["labels"]["named"]]


def worth_sentences(worth: Mapping[str, Any]) -> list[str]:
    """At how many sites the federation is worth it, one sentence for each task and pair of arms."""
    sentences = []
    for task, pairs in worth["summary"].items():
        metric = MAIN[task]
        for pair, metrics in pairs.items():
            found = metrics[metric]
            if pair not in WHAT or not found["judged"]:
                continue
            mean = found["mean"]
            sentences.append(
                f"{TITLES[task]}: {WHAT[pair]} at {found['better']} of {found['judged']} sites by "
                f"{HEADINGS[metric]} ({found['share']:.0%}, 95 % {found['low']:.0%} to {found['high']:.0%}); "
                f"clearly, with an interval that leaves out 0, at {found['clearly_better']}, and clearly "
                f"worse at {found['clearly_worse']}. Mean difference {_signed(mean)}."
            )
    return sentences


def judged_sentence(worth: Mapping[str, Any]) -> str:
    """Which sites are judged, and what own heads did."""
    least = worth["least"]
    tasks = [task for task in EVENTS if any(task in site["tasks"] for site in worth["sites"])]
    events = ", or ".join(f"{EVENTS[task]} ({TITLES[task].lower()})" for task in tasks)
    text = (
        f"Judged are sites with at least {least['patients']} held-out patients and "
        f"{least['events']} {events}, each on its own patients."
    )
    personal = [site["personal"] for site in worth["sites"] if "personal" in site]
    if personal:
        folds, moved = sum(p["folds"] for p in personal), sum(p["moved"] for p in personal)
        text += (
            f" In {moved} of {folds} trainings a site moved its head; in the others its inner folds did not "
            "show a gain, and it kept the federated model."
        )
    return text


def site_tables(results: Mapping[str, Any]) -> list[Table]:
    """One table a task: every site alone, federated and with its own head, with paired differences.

    Below each figure its 95 % bootstrap interval over the site's patients; an asterisk marks sites that are
    judged.
    """
    worth = results["worth"]
    arms = [arm for arm in COLUMNS if arm in worth["arms"]]
    tables = []
    for task, metric in MAIN.items():
        sites = [site for site in worth["sites"] if task in site["tasks"]]
        if not sites:
            continue
        title = f"{TITLES[task]} at each site, {HEADINGS[metric]}: {results['study']['name']}"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("site", no_wrap=True)
        table.add_column(f"patients\n{SHORT_EVENTS[task]}", justify="right")
        for arm in arms:
            table.add_column(COLUMNS[arm], justify="right")
        pairs = [pair for pair in WHAT if all(arm in arms for arm in pair.split("-"))][:2]
        for pair in pairs:
            first, second = (COLUMNS[arm] for arm in pair.split("-"))
            table.add_column(f"{first}\n− {second}", justify="right")
            table.add_column(f"log loss:\n{first}\n− {second}", justify="right")
        if any("personal" in site for site in sites):
            table.add_column("own head\nmoved", justify="right")
        for site in sorted(sites, key=lambda site: -site["tasks"][task]["patients"]):
            table.add_row(*_row(site, task, metric, arms, pairs))
        tables.append(table)
    return tables


def _row(site: Mapping[str, Any], task: str, metric: str, arms: list[str], pairs: list[str]) -> list[str]:
    found = site["tasks"][task]
    row = [site["site"] + (" *" if found["judged"] else ""), f"{found['patients']}\n{found['events']}"]
    if not found["figures"]:
        row += ["too few", *[""] * (len(arms) - 1 + 2 * len(pairs))]
    else:
        figures, differences = found["figures"], found["differences"]
        row += [two_lines(figures[arm][metric]) if arm in figures else "not trained" for arm in arms]
        for pair in pairs:
            for name in (metric, "log_loss"):
                row.append(two_lines(differences[pair][name], "+") if pair in differences else "")
    if "personal" in site:
        row.append(f"{site['personal']['moved']} of {site['personal']['folds']}")
    return row


def _signed(figure: Mapping[str, Any]) -> str:
    if figure["estimate"] is None:
        return "not defined"
    if figure["low"] is None:
        return f"{figure['estimate']:+.3f}"
    return f"{figure['estimate']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}]"
