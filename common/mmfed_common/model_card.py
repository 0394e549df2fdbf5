"""The model card: what a reader must know before trusting a model (after TRIPOD+AI and Mitchell 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmfed_common.calibration_words import calibration_lines
from mmfed_common.contract import Contract
from mmfed_common.privacy import told_privacy
from mmfed_common.study import Study

METRIC_NAMES: dict[str, str] = {
    "c_index": "C-index (Harrell)",
    "c_index_within_site": "C-index within sites",
    "uno_c": "C-index (Uno)",
    "ibs": "Integrated Brier score",
    "ibs_against_kaplan_meier": "Brier gain over Kaplan–Meier",
    "coverage_90": "Coverage of the 90 % lower bound",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auroc": "AUROC, macro",
    "auroc_macro": "AUROC, macro",
    "held_out_loss": "Loss over held-out patients",
}


@dataclass(frozen=True)
class ModelFacts:
    """What a model card and ``metrics.json`` state about a trained model.

    Attributes
    ----------
    metrics
        Arm → task → metric → ``{"estimate", "low", "high", "n", "events"}``.
    sites
        One mapping a site with ``site``, ``patients``, ``train``, ``test``.
    held_out
        One or two sentences: which patients the figures stand on, or why there are none.
    notes
        Further caveats of this run.
    calibration
        ``bins_days``, ``lower_bound`` and ``temperatures`` as :mod:`.recalibration` gives them, and what was
        found on held-out patients: ``horizons``, ``deaths``, ``slope``, ``d_calibration``, ``coverage``. None
        where nothing was.
    """

    metrics: dict[str, Any]
    sites: Sequence[Mapping[str, Any]]
    held_out: str
    notes: Sequence[str] = field(default_factory=tuple)
    calibration: dict[str, Any] | None = None


def metric_name(key: str) -> str:
    """Readable name of a metric, e.g. ``auc_365.25`` → "AUC at 12 months"."""
    if key.startswith("auc_"):
        return f"AUC at {float(key[4:]) / 30.4375:.0f} months"
    return METRIC_NAMES.get(key, key)


def format_estimate(figure: Mapping[str, Any], *, signed: bool = False) -> str:
    """Write ``0.712 [0.650, 0.771]``; a dash where it is not defined."""
    if figure.get("estimate") is None:
        return "–"
    sign = "+" if signed else ""
    text = f"{figure['estimate']:{sign}.3f}"
    if figure.get("low") is None or figure.get("high") is None:
        return text
    return f"{text} [{figure['low']:{sign}.3f}, {figure['high']:{sign}.3f}]"


def write_model_card(path: Path, study: Study, facts: ModelFacts) -> None:
    """Write the card as Markdown."""
    contract = study.contract
    train = sum(int(site.get("train") or 0) for site in facts.sites)
    knowledge = contract.knowledge.sha256 if contract.knowledge else "none"
    lines = [
        f"# Model card: {study.study.name}, version {study.study.version}",
        "",
        study.study.description or "No description was given in the study.",
        "",
        "## Intended use",
        f"Predicts {_tasks(contract)} of one patient from {_inputs(contract)}; any of them may be missing. "
        "For research. It is not a medical device, and no treatment may rest on it alone.",
        "",
        "## Training data",
        f"{train} patients of {len(facts.sites)} sites; no patient record left a site.",
        "",
        "| site | patients | trained on | held out |",
        "|---|---:|---:|---:|",
        *[f"| {s['site']} | {s.get('patients')} | {s.get('train')} | {s.get('test')} |" for s in facts.sites],
        "",
        "## Performance",
        facts.held_out,
        *_about_brackets(facts.metrics),
        "",
        *_performance(facts.metrics),
        "",
        "## Calibration",
        *calibration_lines(facts.calibration),
        "",
        "## Privacy",
        *_privacy(study, facts),
        "",
        "## Caveats",
        "- Sites differ in patients, treatment and follow-up; performance at a new site is unknown until it "
        "is measured there.",
        "- Calibration at a new site must be checked before any predicted probability is read as such.",
        *[f"- {note}" for note in facts.notes],
        "",
        "## Identity",
        f"- Study SHA-256: `{study.hash}`",
        f"- Knowledge pack SHA-256: `{knowledge}`",
        f"- Seed: {study.study.seed} · rounds: {study.training.rounds} · "
        f"strategy: {study.aggregation.strategy}",
        f"- Contact: {study.study.contact or 'none given'}",
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def _privacy(study: Study, facts: ModelFacts) -> list[str]:
    told = told_privacy(study, facts.sites)
    if told is None:
        return [
            "Trained without differential privacy (ε: none). Weights can hold traces of training patients: "
            "share them only under the agreement of the sites."
        ]
    rows = [f"| {site} | {'–' if epsilon is None else epsilon} |" for site, epsilon in told["sites"].items()]
    return [
        f"Trained with differential privacy: ε = {told['epsilon']:g} at δ = {told['delta']:g} for the "
        f"training patients of any site. The unit is {told['unit']}.",
        "",
        f"- Mechanism: {told['mechanism']}; gradients clipped to {told['clipping']:g}, trainable: "
        f"{told['trainable']}",
        f"- Accountant: {told['accountant']}",
        f"- {told['holds']}",
        "- By the coordinator's reckoning, from the study and the number of patients. What a site really "
        f"spent stands in its own ledger; none spends more than ε = {study.privacy.epsilon} in this study.",
        "- Only training patients are covered. Whoever is a patient of two sites loses at both.",
        "",
        "| site | ε |",
        "|---|---:|",
        *rows,
    ]


def _tasks(contract: Contract) -> str:
    names = {
        "survival": "overall survival",
        "response": "treatment response",
        "toxicity": "grade 3+ toxicity",
    }
    return ", ".join(names[task] for task in contract.tasks)


def _inputs(contract: Contract) -> str:
    names = {
        "clinical_feature": f"{len(contract.columns)} clinical columns",
        "gene": "genes (" + ", ".join(contract.gene.layers if contract.gene else ()) + ")",
        "protein": "proteins",
        "metabolite": "metabolites",
        "imaging_feature": "imaging features",
    }
    return ", ".join(names[node_type] for node_type in contract.node_types)


def _performance(metrics: Mapping[str, Any]) -> list[str]:
    rows = ["| arm | task | metric | value | patients | events |", "|---|---|---|---|---:|---:|"]
    for arm, tasks in metrics.items():
        for task, figures in tasks.items():
            for key, figure in figures.items():
                events = "" if figure.get("events") is None else figure["events"]
                patients = "–" if figure.get("n") is None else figure["n"]
                value = format_estimate(figure)
                rows.append(f"| {arm} | {task} | {metric_name(key)} | {value} | {patients} | {events} |")
    return rows if len(rows) > 2 else ["Nothing was measured."]


def _about_brackets(metrics: Mapping[str, Any]) -> list[str]:
    """Explain the intervals, where there are any."""
    figures = (figure for tasks in metrics.values() for found in tasks.values() for figure in found.values())
    if all(figure.get("low") is None for figure in figures):
        return []
    return [
        "Brackets: 95 % bootstrap interval over patients. It holds neither the chance of training nor that "
        "of choosing among models."
    ]
