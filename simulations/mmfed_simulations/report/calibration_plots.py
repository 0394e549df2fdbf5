"""Plots of calibration: where patients die on their curves, and how many live as long as their bound says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmfed_simulations.evaluation.arm_names import label
from mmfed_simulations.report.style import ACCENT, INK, MUTED, empty_figure, svg_text


def shares_plot(found: Mapping[str, Any]) -> str | None:
    """Share of patients in each tenth of their own predicted curve; None where the arm has no curves.

    Parameters
    ----------
    found
        One arm of ``results["calibration"]``.
    """
    test = found.get("d_calibration")
    if not test:
        return None
    shares = test["shares"]
    with empty_figure(7.4, 2.8) as figure:
        axes = figure.subplots()
        places = [(k + 0.5) / len(shares) for k in range(len(shares))]
        axes.bar(places, shares, width=0.9 / len(shares), color=ACCENT, alpha=0.75)
        axes.axhline(1 / len(shares), color=INK, lw=1, ls=(0, (4, 3)))
        axes.set_xlim(0, 1)
        axes.set_xticks([k / 10 for k in range(0, 11, 2)])
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("predicted probability of being alive on the day of death")
        axes.set_ylabel("patients")
        return svg_text(figure)


def coverage_plot(calibration: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Coverage of each arm's lower bound with its interval, and of each fold as a dot; None without any.

    Parameters
    ----------
    calibration
        ``results["calibration"]``.
    """
    bounds = {arm: found["lower_bound"] for arm, found in calibration.items() if found.get("lower_bound")}
    rows = [(arm, b) for arm, b in bounds.items() if b["coverage"]["estimate"] is not None]
    if not rows:
        return None
    with empty_figure(7.4, 1.1 + 0.36 * len(rows)) as figure:
        axes = figure.subplots()
        for place, (arm, bound) in enumerate(reversed(rows)):
            own = arm == "federated"
            colour, whole = ACCENT if own else MUTED, bound["coverage"]
            folds = [f["coverage"] for f in bound["folds"].values() if f["coverage"] is not None]
            axes.plot(folds, [place] * len(folds), ".", color=colour, ms=5, alpha=0.5)
            if whole["low"] is not None:
                axes.plot([whole["low"], whole["high"]], [place] * 2, color=colour, lw=2.2 if own else 1.6)
            axes.plot(whole["estimate"], place, "o" if own else "s", color=colour, ms=7 if own else 5)
        axes.axvline(rows[0][1]["level"], color=INK, lw=1, ls=(0, (4, 3)))
        axes.set_yticks(range(len(rows)), [label(arm) for arm, _ in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("patients who lived at least as long as their lower bound")
        return svg_text(figure)
