"""Fill the report's page: results, predictions and rounds in, one self-contained HTML file out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from mmfed_common.durable import write_durably
from mmfed_common.errors import StudyError
from mmfed_common.model_card import format_estimate, metric_name
from mmfed_simulations.evaluation.arm_names import label
from mmfed_simulations.evaluation.hospital.scores import MAIN
from mmfed_simulations.evaluation.hospital.table import COLUMNS, WHAT, judged_sentence, worth_sentences
from mmfed_simulations.report import calibration_plots, plots
from mmfed_simulations.report.site_plot import shown_sites, site_worth_plot

MAIN_METRICS: dict[str, tuple[str, ...]] = {
    "survival": ("c_index", "c_index_within_site", "uno_c", "ibs", "ibs_against_kaplan_meier"),
    "response": ("accuracy", "balanced_accuracy", "auroc"),
    "toxicity": ("auroc_macro",),
}
FIRST_METRIC: dict[str, str] = {"survival": "c_index", "response": "auroc", "toxicity": "auroc_macro"}
TASK_NAMES: dict[str, str] = {
    "survival": "Overall survival",
    "response": "Treatment response",
    "toxicity": "Toxicity, grade 3 or more",
}


@dataclass(frozen=True)
class Picture:
    """A plot with its title, what it shows, and how to read it."""

    title: str
    source: str
    alternative: str
    caption: str


def main_arm(results: Mapping[str, Any]) -> str:
    """The arm that the plots show: the federated one where there is one."""
    arms = list(results["arms"])
    return "federated" if "federated" in arms or not arms else str(arms[0])


def write_report(
    results: Mapping[str, Any], predictions: pd.DataFrame, rounds: Sequence[Mapping[str, Any]], out: Path
) -> Path:
    """Write ``report.html`` into a folder.

    Parameters
    ----------
    results
        Content of ``results.json``.
    predictions
        The table of predictions.
    rounds
        Rows with ``round``, ``train_loss``, ``held_out_loss``, and ``fold``, ``stage`` where they apply.
    out
        The run's folder.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    StudyError
        ``MMF-508`` when it cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("mmfed_simulations.report", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": format_estimate,
        "difference": lambda found: format_estimate(found, signed=True),
        "label": label,
        "metric": metric_name,
        "bytes": format_bytes,
        "seconds": format_seconds,
    }
    page = environment.get_template("page.html.j2").render(
        results=results,
        main=main_arm(results),
        task_names=TASK_NAMES,
        metrics=_shown_metrics(results),
        cards=_cards(results),
        references=_references(results),
        differences=_differences(results),
        first_metric=FIRST_METRIC,
        pictures=_pictures(results, predictions, rounds),
        calibrated=_calibrated(results),
        site_columns=_site_columns(results["sites"]),
        site_arms=list(results["site_c_index"]),
        worth=_worth(results),
    )
    path = out / "report.html"
    try:
        write_durably(path, page.encode())
    except OSError as error:
        raise StudyError("MMF-508", str(error), str(path)) from None
    return path


def format_bytes(count: float | None) -> str:
    """``1.4 MB``; a dash where it is not known."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def format_seconds(seconds: float | None) -> str:
    """``42.0 s``, or ``3 min 05 s`` from two minutes on; a dash where it is not known."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def _shown_metrics(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Task → metrics that at least one arm has, in a reader's order."""
    shown = {}
    for task, names in MAIN_METRICS.items():
        found = {name for tasks in results["arms"].values() for name in tasks.get(task, {})}
        extra = sorted((n for n in found if n.startswith("auc_")), key=lambda n: float(n[4:]))
        columns = [name for name in names if name in found] + extra
        if columns:
            shown[task] = columns
    return shown


def _cards(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The few figures on top: title, value, small print."""
    cards = []
    own = results["arms"].get(main_arm(results), {})
    for task, metric in FIRST_METRIC.items():
        found = own.get(task, {}).get(metric)
        if found and found["estimate"] is not None:
            spread = (
                "no interval" if found["low"] is None else f"95 % {found['low']:.3f} – {found['high']:.3f}"
            )
            cards.append((f"{metric_name(metric)} · {task}", f"{found['estimate']:.3f}", spread))
    patients = sum(int(site["patients"]) for site in results["sites"])
    survival = own.get("survival", {}).get("c_index")
    deaths = "" if survival is None else f"{survival['events']} deaths among {survival['n']} scored"
    cards.append(("Patients", f"{patients:,}".replace(",", " "), deaths))
    cards.append(("Sites", str(len(results["sites"])), "no record left a site"))
    return cards


def _references(results: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["second"] for row in results["paired"]))


def _differences(results: Mapping[str, Any]) -> dict[tuple[str, str, str, str], Mapping[str, Any]]:
    return {(r["task"], r["metric"], r["first"], r["second"]): r for r in results["paired"]}


def _calibrated(results: Mapping[str, Any]) -> dict[float, dict[str, Mapping[str, Any]]]:
    """Horizon → third of risk → row of the calibration table of the arm that is shown."""
    table: dict[float, dict[str, Mapping[str, Any]]] = {}
    for row in results["calibration"].get(main_arm(results), {}).get("by_risk", []):
        table.setdefault(row["horizon_days"], {})[row["third"]] = row
    return table


def _site_columns(sites: Sequence[Mapping[str, Any]]) -> list[str]:
    wanted = ("patients", "train", "test", "seconds", "bytes_up", "bytes_down", "epsilon", "status")
    return [name for name in wanted if any(site.get(name) not in (None, "") for site in sites)]


def _pictures(
    results: Mapping[str, Any], predictions: pd.DataFrame, rounds: Sequence[Mapping[str, Any]]
) -> dict[str, Picture]:
    arm = main_arm(results)
    found: dict[str, tuple[str | None, str, str, str]] = {}
    for task, metric in FIRST_METRIC.items():
        name = metric_name(metric)
        found[f"arms_{task}"] = (
            plots.arms_plot(results["arms"], task, metric, f"{name}, 95 % interval", 0.5),
            f"{TASK_NAMES[task]}: {name} of every arm",
            f"{name} of every arm with its 95 % interval; the table below gives the same figures",
            "Dot and line: estimate and 95 % bootstrap interval over patients. Dashed, where in view: "
            "chance. Intervals of two arms may overlap although their paired difference is clear; "
            "see the differences below.",
        )
    found["learning"] = (
        plots.learning_curves(rounds),
        "Learning curves",
        "Mean loss of training and held-out patients by round",
        "Held-out patients are watched, never used: no round was chosen by them.",
    )
    horizons = results["study"]["horizons_days"]
    if horizons:
        found["survival"] = (
            plots.kaplan_meier_plot(predictions, arm, max(horizons) * 1.2),
            "Survival by predicted risk",
            "Kaplan–Meier curves of held-out patients in the low, middle and high third of predicted risk",
            f"{label(arm)} model, held-out patients, thirds of predicted risk within each fold. Bands: 95 %.",
        )
        found["calibration"] = (
            plots.calibration_plot(results["calibration"].get(arm, {}).get("by_risk", [])),
            "Calibration",
            "Observed against predicted deaths by third of predicted risk at each horizon",
            "On the dashed line predictions are right on average. Observed: one minus Kaplan–Meier, 95 %.",
        )
        found["shares"] = (
            calibration_plots.shares_plot(results["calibration"].get(arm, {})),
            "Where on their curve patients die",
            "Share of held-out patients who die in each tenth of their own predicted survival curve",
            f"{label(arm)} model, held-out patients of all folds. With right curves each tenth holds "
            "a tenth of the patients (dashed). Those censored are spread over what is left of their curve.",
        )
        found["coverage"] = (
            calibration_plots.coverage_plot(results["calibration"]),
            "Coverage of the 90 % lower bound on survival time",
            "Share of held-out patients who lived at least as long as their lower bound, by arm and fold",
            "Large mark and line: all folds with the 95 % interval; dots: single folds; dashed: the aim.",
        )
    return {
        key: Picture(title, _inline(svg), alternative, caption)
        for key, (svg, title, alternative, caption) in found.items()
        if svg is not None
    }


def _worth(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the page says on each hospital; None where there is nothing to compare a site with."""
    worth = results.get("worth")
    if worth is None or not worth["summary"]:
        return None
    pairs = [pair for pair in WHAT if all(arm in worth["arms"] for arm in pair.split("-"))][:2]
    pictures = {}
    for task in worth["summary"]:
        svg = site_worth_plot(worth, task, f"{metric_name(MAIN[task])} within the site, 95 % interval")
        if svg is not None:
            text = f"{metric_name(MAIN[task])} of each site alone, federated, and with its own head"
            pictures[task] = Picture(TASK_NAMES[task], _inline(svg), text, "")
    return {
        "sentences": worth_sentences(worth),
        "judged": judged_sentence(worth),
        "pictures": pictures,
        "arms": {arm: text for arm, text in COLUMNS.items() if arm in worth["arms"]},
        "pairs": {pair: " − ".join(COLUMNS[arm] for arm in pair.split("-")) for pair in pairs},
        "sites": {task: shown_sites(worth, task) for task in worth["summary"]},
        "metrics": MAIN,
    }


def _inline(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
