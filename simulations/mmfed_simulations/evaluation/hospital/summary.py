"""Is it worth it for a hospital, over several comparisons: figures and a page of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scipy.stats import binomtest

from mmfed_simulations.evaluation.arm_names import PERSONALISED
from mmfed_simulations.evaluation.hospital.labels import LEAST_EVENTS as LABEL_EVENTS
from mmfed_simulations.evaluation.hospital.labels import LEAST_PATIENTS as LABEL_PATIENTS
from mmfed_simulations.evaluation.hospital.scores import MAIN
from mmfed_simulations.evaluation.hospital.table import COLUMNS, EVENTS
from mmfed_simulations.evaluation.hospital.worth import LEAST_EVENTS, LEAST_PATIENTS, PAIRS

TARGET = 0.8
"""Share of the judged sites at which the federation should be better than training alone."""
TASK_WORDS = {"survival": "overall survival", "response": "response", "toxicity": "toxicity"}
LABELS = (
    f"Looked for at sites with at least {LABEL_PATIENTS} held-out patients, {LABEL_EVENTS} events and, for "
    f"survival, {LABEL_EVENTS} censored. A site is named where its outcomes fit the federated model better "
    "with a mistake in coding undone (death and censoring exchanged, risk in reversed order, classes "
    "reversed, labels inverted): p below .05 after Holm over the sites. A small site, or one where the model "
    "predicts little, can be flipped without being named."
)
COUNTED = ("judged", "better", "worse", "clearly_better", "clearly_worse")


def worth_figures(results_by_cohort: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Collect what several comparisons say on their sites.

    Parameters
    ----------
    results_by_cohort
        Cohort → content of its ``results.json``, with ``worth``.

    Returns
    -------
    dict
        ``cohorts``: name → ``study`` (hash), ``sites``, ``summary``, ``named``, ``own_heads``. ``together``:
        task → pair of arms → metric → counts over the judged sites of all cohorts, with the share and its
        95 % interval (Wilson).
    """
    cohorts = {}
    for name, results in results_by_cohort.items():
        worth = results["worth"]
        personal = [site["personal"] for site in worth["sites"] if "personal" in site]
        cohorts[name] = {
            "study": results["study"]["hash"],
            "sites": worth["sites"],
            "summary": worth["summary"],
            "named": worth["labels"]["named"],
            "tests": len(worth["labels"]["tests"]),
            "own_heads": {
                "trainings": sum(p["folds"] for p in personal),
                "moved": sum(p["moved"] for p in personal),
            },
        }
    return {
        "least": {"patients": LEAST_PATIENTS, "events": LEAST_EVENTS},
        "target": TARGET,
        "cohorts": cohorts,
        "together": _together([cohort["summary"] for cohort in cohorts.values()]),
    }


def worth_text(figures: Mapping[str, Any]) -> str:
    """Write the figures of :func:`worth_figures` as Markdown: shares, then every site."""
    least = figures["least"]
    events = ", or ".join(f"{text} ({TASK_WORDS[task]})" for task, text in EVENTS.items())
    lines = [
        f"A site is judged on its own held-out patients, if they are at least {least['patients']} with at "
        f"least {least['events']} {events}. Patients are compared only with patients of the same site and "
        "fold. Intervals are 95 %: bootstrap over the site's patients with fitted models fixed; of shares, "
        "Wilson's.",
        "",
    ]
    for task, pairs in figures["together"].items():
        lines += _shares(task, pairs, figures)
    for task in figures["together"]:
        for name, cohort in figures["cohorts"].items():
            lines += _sites(name, cohort, task)
    lines += ["## Labels that seem to be flipped", "", LABELS, ""]
    for name, cohort in figures["cohorts"].items():
        lines += _labels(name, cohort)
    return "\n".join(lines).rstrip() + "\n"


def _together(summaries: list[Mapping[str, Any]]) -> dict[str, Any]:
    together: dict[str, Any] = {}
    for task in MAIN:
        for pair in map("-".join, PAIRS):
            found = [summary[task][pair] for summary in summaries if pair in summary.get(task, {})]
            for metric in found[0] if found else ():
                counts = {key: sum(one[metric][key] for one in found) for key in COUNTED}
                share = counts["better"] / counts["judged"] if counts["judged"] else None
                bounds: dict[str, float | None] = {"low": None, "high": None}
                if counts["judged"]:
                    wilson = binomtest(counts["better"], counts["judged"]).proportion_ci(method="wilson")
                    bounds = {"low": float(wilson.low), "high": float(wilson.high)}
                together.setdefault(task, {}).setdefault(pair, {})[metric] = (
                    counts | {"share": share} | bounds
                )
    return together


def _shares(task: str, pairs: Mapping[str, Any], figures: Mapping[str, Any]) -> list[str]:
    lines = [
        f"## {TASK_WORDS[task].capitalize()}: at how many sites",
        "",
        "| | metric | judged | better | worse | share better | clearly better | clearly worse |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for pair, metrics in pairs.items():
        first, second = (COLUMNS[arm] for arm in pair.split("-"))
        for metric, found in metrics.items():
            share = "–"
            if found["share"] is not None:
                share = f"{found['share']:.0%} [{found['low']:.0%}, {found['high']:.0%}]"
            lines.append(
                f"| {first} against {second} | {metric} | {found['judged']} | {found['better']} "
                f"| {found['worse']} | {share} | {found['clearly_better']} | {found['clearly_worse']} |"
            )
    main = pairs.get("federated-local", {}).get(MAIN[task])
    if main is not None and main["share"] is not None:
        met = _met(main["share"], main["low"], figures["target"])
        lines += ["", f"Target: better than alone at {figures['target']:.0%} of the judged sites: {met}."]
    return [*lines, ""]


def _met(share: float, low: float, target: float) -> str:
    if share < target:
        return "missed"
    return "met, with its whole interval" if low >= target else "met; its interval reaches below"


def _sites(name: str, cohort: Mapping[str, Any], task: str) -> list[str]:
    metric = MAIN[task]
    rows = [site for site in cohort["sites"] if site["tasks"].get(task, {}).get("figures")]
    if not rows:
        return []
    pairs = ("federated-local", f"{PERSONALISED}-federated")
    heads = [*COLUMNS.values(), *("{} − {}".format(*(COLUMNS[a] for a in pair.split("-"))) for pair in pairs)]
    lines = [
        f"### {name}, {TASK_WORDS[task]}: {metric}",
        "",
        f"| site | patients | events | {' | '.join(heads)} | own head moved |",
        "|---" * (4 + len(heads)) + "|",
    ]
    for site in sorted(rows, key=lambda site: (-site["tasks"][task]["patients"], site["site"])):
        found = site["tasks"][task]
        cells = [_figure(found["figures"].get(arm, {}).get(metric)) for arm in COLUMNS]
        cells += [_figure(found["differences"].get(pair, {}).get(metric), "+") for pair in pairs]
        personal = site.get("personal")
        moved = "" if personal is None else f"{personal['moved']} of {personal['folds']}"
        star = " *" if found["judged"] else ""
        counts = [f"{site['site']}{star}", str(found["patients"]), str(found["events"])]
        lines.append(f"| {' | '.join([*counts, *cells, moved])} |")
    return [*lines, "", "\\* judged", ""]


def _labels(name: str, cohort: Mapping[str, Any]) -> list[str]:
    if not cohort["named"]:
        return [f"- {name}: no site ({cohort['tests']} tests)."]
    return [f"- {name}, {named['text']}" for named in cohort["named"]]


def _figure(figure: Mapping[str, Any] | None, sign: str = "") -> str:
    if not figure or figure["estimate"] is None:
        return "–"
    text = f"{figure['estimate']:{sign}.3f}"
    return (
        text if figure["low"] is None else f"{text} [{figure['low']:{sign}.3f}, {figure['high']:{sign}.3f}]"
    )
