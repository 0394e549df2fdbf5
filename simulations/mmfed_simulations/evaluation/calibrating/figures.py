"""Calibration of several cohorts side by side: figures as JSON, and Markdown tables of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmfed_common.calibration_words import years_of
from mmfed_common.model_card import format_estimate
from mmfed_simulations.evaluation.arm_names import label

SHOWN = ("federated", "cox_clinical", "ridge_all")
"""Arms of the tables, where they are there."""
MAIN = "federated"
KEPT = (
    "horizons",
    "deaths",
    "slope",
    "d_calibration",
    "residuals",
    "ibs",
    "ibs_gain_over_kaplan_meier",
    "ibs_minus_cox",
    "lower_bound",
)


def calibration_figures(results_by_cohort: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Gather the calibration of several comparisons.

    Parameters
    ----------
    results_by_cohort
        Cohort → content of its ``results.json``.

    Returns
    -------
    ``cohorts``: cohort → arm → calibration without its folds; ``temperature``: cohort → mode → figures;
    ``rejected``: arm → test → folds rejected and tested, all cohorts together.
    """
    cohorts: dict[str, dict[str, Any]] = {}
    rejected: dict[str, dict[str, dict[str, int]]] = {}
    for cohort, results in results_by_cohort.items():
        found = {arm: one for arm, one in results["calibration"].items() if "slope" in one}
        cohorts[cohort] = {arm: {k: one[k] for k in KEPT if k in one} for arm, one in found.items()}
        for arm, one in found.items():
            for test in ("d_calibration", "residuals"):
                total = rejected.setdefault(arm, {}).setdefault(test, {"rejected": 0, "folds": 0})
                total["rejected"] += one[test]["rejected"]
                total["folds"] += one[test]["folds"]
    temperature = {cohort: results["temperature"] for cohort, results in results_by_cohort.items()}
    return {"cohorts": cohorts, "temperature": temperature, "rejected": rejected}


def calibration_text(figures: Mapping[str, Any]) -> str:
    """Markdown tables of :func:`calibration_figures`: calibration, lower bounds, temperatures."""
    cohorts = figures["cohorts"]
    arms = [arm for arm in SHOWN if any(arm in found for found in cohorts.values())]
    lines = ["## Observed and expected deaths, D-calibration, Brier scores", "", *_deaths(cohorts, arms), ""]
    lines += [_rejections(arm, figures["rejected"][arm]) for arm in arms]
    lines += ["", "## The 90 % lower bound on survival time", "", *_bounds(cohorts, arms), ""]
    scaled = {cohort: modes for cohort, modes in figures["temperature"].items() if modes}
    if scaled:
        lines += ["## Temperature scaling of the federated model", "", *_temperature(scaled), ""]
    return "\n".join(lines)


def calibration_summary(results: Mapping[str, Any]) -> list[str]:
    """A few lines for a terminal on the calibration of the main arm; empty without survival curves."""
    found = results["calibration"].get(MAIN, {})
    if "slope" not in found:
        return []
    ratios = ", ".join(f"{years_of(row['horizon_days'])} {_ratio(row)}" for row in found["horizons"])
    test, other = found["d_calibration"], found["residuals"]
    lines = [
        f"Calibration, {label(MAIN)}: deaths observed / expected by {ratios}; slope "
        f"{format_estimate(found['slope'])}; D-calibration rejected in {test['rejected']} of {test['folds']} "
        f"folds, Cox–Snell residuals in {other['rejected']}."
    ]
    bound = found.get("lower_bound")
    if bound:
        lines.append(
            f"90 % lower bound on survival time ({bound['source']}): coverage "
            f"{format_estimate(bound['coverage'])}, median bound {bound['median_days']:.0f} days."
        )
    return lines


def _deaths(cohorts: Mapping[str, Mapping[str, Any]], arms: Sequence[str]) -> list[str]:
    first = next((found[arm] for found in cohorts.values() for arm in arms if arm in found), None)
    if first is None:
        return ["No arm predicts survival curves."]
    headings = [f"observed / expected, {years_of(row['horizon_days'])}" for row in first["horizons"]]
    headings += ["all follow-up", "slope", "D-calibration rejects", "residuals reject", "IBS"]
    headings += ["gain over Kaplan–Meier", "IBS − Cox"]
    rows = []
    for cohort, found in cohorts.items():
        for arm in arms:
            if arm in found:
                rows.append([cohort, label(arm), *_row(found[arm])])
    return _table(["cohort", "arm", *headings], rows)


def _row(one: Mapping[str, Any]) -> list[str]:
    cells = [_ratio(row) for row in one["horizons"]]
    deaths = one["deaths"]
    cells.append("–" if deaths["ratio"] is None else _figures(deaths["ratio"], deaths["low"], deaths["high"]))
    slope = one["slope"]
    cells.append(
        "–" if slope["estimate"] is None else _figures(*(slope[k] for k in ("estimate", "low", "high")))
    )
    cells += [f"{one[test]['rejected']} of {one[test]['folds']}" for test in ("d_calibration", "residuals")]
    cells += [format_estimate(one["ibs"]), format_estimate(one["ibs_gain_over_kaplan_meier"])]
    cells.append("" if one["ibs_minus_cox"] is None else format_estimate(one["ibs_minus_cox"], signed=True))
    return cells


def _rejections(arm: str, tests: Mapping[str, Mapping[str, int]]) -> str:
    said = [
        f"{name} in {tests[key]['rejected']} of {tests[key]['folds']} folds"
        for key, name in (("d_calibration", "D-calibration"), ("residuals", "Cox–Snell residuals"))
    ]
    return f"- {label(arm)}, all cohorts: rejected by {', by '.join(said)}."


def _bounds(cohorts: Mapping[str, Mapping[str, Any]], arms: Sequence[str]) -> list[str]:
    rows = []
    for cohort, found in cohorts.items():
        for arm in arms:
            bound = found.get(arm, {}).get("lower_bound")
            if not bound:
                continue
            folds = [one["coverage"] for one in bound["folds"].values() if one["coverage"] is not None]
            reached = f"{min(folds):.3f} – {max(folds):.3f}" if folds else "–"
            limits = f"{bound['coverage_least']:.3f} – {bound['coverage_greatest']:.3f}"
            coverage, median = format_estimate(bound["coverage"]), f"{bound['median_days']:.0f}"
            longest = f"{bound['at_longest']:.0%}"
            rows.append([cohort, label(arm), coverage, reached, median, longest, bound["source"], limits])
    headings = ["cohort", "arm", "coverage", "folds", "median bound, days", "at the longest", "calibrated on"]
    return _table([*headings, "without assumptions"], rows) if rows else ["No arm has lower bounds."]


def _temperature(cohorts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = []
    for cohort, modes in cohorts.items():
        for mode, found in modes.items():
            against = found.get("minus_none", {})
            differences = [
                f"{format_signed(against[name])}" if name in against else ""
                for name in ("log_loss", "ibs", "c_index")
            ]
            slope = format_estimate(found["slope"])
            tests = [f"{found[t]['rejected']} of {found[t]['folds']}" for t in ("d_calibration", "residuals")]
            rows.append([cohort, mode, format_estimate(found["log_loss"]), *differences, slope, *tests])
    headings = ["cohort", "temperature", "log loss", "− none", "IBS − none", "C − none", "slope"]
    return _table([*headings, "D-calibration rejects", "residuals reject"], rows)


def format_signed(figure: Mapping[str, Any]) -> str:
    """A small difference with four decimals: ``-0.0012 [-0.0031, +0.0004]``."""
    if figure["estimate"] is None:
        return "–"
    if figure["low"] is None:
        return f"{figure['estimate']:+.4f}"
    return f"{figure['estimate']:+.4f} [{figure['low']:+.4f}, {figure['high']:+.4f}]"


def _ratio(row: Mapping[str, Any]) -> str:
    """Observed over expected, with the interval of what was observed."""
    if row["observed_over_expected"] is None:
        return "–"
    low = None if row["low"] is None else row["low"] / row["expected"]
    high = None if row["high"] is None else row["high"] / row["expected"]
    return _figures(row["observed_over_expected"], low, high)


def _figures(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
