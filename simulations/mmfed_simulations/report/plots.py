"""Plots of the report, as SVG text. Colours of Okabe and Ito, and line styles, tell groups apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from matplotlib.axes import Axes

from mmfed_common.metrics import risk_thirds
from mmfed_common.metrics.calibration import THIRDS
from mmfed_simulations.evaluation.arm_names import label
from mmfed_simulations.evaluation.predictions import known_survival
from mmfed_simulations.report.style import ACCENT, INK, MUTED, empty_figure, svg_text

THIRD_COLOURS = ("#0072b2", "#e69f00", "#c2410c")
THIRD_STYLES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1.5, 1.5)))
DAYS_A_MONTH = 30.4375


def arms_plot(arms: Mapping[str, Any], task: str, metric: str, axis_label: str, chance: float) -> str | None:
    """Estimates of all arms with their intervals, best on top; None if no arm has one."""
    rows = []
    for arm, tasks in arms.items():
        figure = tasks.get(task, {}).get(metric)
        if figure and figure["estimate"] is not None:
            rows.append((arm, figure))
    if not rows:
        return None
    rows.sort(key=lambda row: float(row[1]["estimate"]))
    with empty_figure(7.4, 0.75 + 0.36 * len(rows)) as figure:
        axes = figure.subplots()
        for place, (arm, found) in enumerate(rows):
            own = arm == "federated"
            colour = ACCENT if own else MUTED
            if found["low"] is not None:
                axes.plot([found["low"], found["high"]], [place] * 2, color=colour, lw=2.2 if own else 1.6)
            axes.plot(found["estimate"], place, "o" if own else "s", color=colour, ms=7 if own else 5)
            text = f"{found['estimate']:.3f}"
            axes.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        axes.set_yticks(range(len(rows)), [label(arm) for arm, _ in rows])
        for tick, (arm, _) in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_fontweight("bold" if arm == "federated" else "normal")
        low = min(float(f["low"] if f["low"] is not None else f["estimate"]) for _, f in rows)
        if low < chance + 0.05:
            axes.axvline(chance, color=INK, lw=0.9, ls=(0, (4, 3)))
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(axis_label)
        return svg_text(figure)


def learning_curves(rounds: Sequence[Mapping[str, Any]]) -> str | None:
    """Mean loss a patient over the rounds, for training and held-out patients; a thin line for each fold."""
    frame = pd.DataFrame([dict(row) for row in rounds])
    wanted = {
        "train_loss": ("training patients", ACCENT, "-"),
        "held_out_loss": ("held-out patients", "#c2410c", "--"),
    }
    present = [name for name in wanted if name in frame and frame[name].notna().any()]
    if frame.empty or "round" not in frame or not present:
        return None
    with empty_figure(7.4, 3.1) as figure:
        axes = figure.subplots()
        for name in present:
            text, colour, style = wanted[name]
            known = frame[frame[name].notna()]
            folds = known.groupby("fold") if "fold" in known else [("", known)]
            several = "fold" in known and known["fold"].nunique() > 1
            for _, rows in folds if several else []:
                axes.plot(rows["round"], rows[name], color=colour, lw=0.7, alpha=0.35, ls=style)
            mean = known.groupby("round")[name].mean()
            marker = "o" if len(mean) < 30 and name == "held_out_loss" else None
            named = f"{text} (mean of folds)" if several else text
            axes.plot(mean.index, mean, color=colour, lw=2.0, ls=style, marker=marker, ms=3.5, label=named)
        _mark_stages(axes, frame)
        axes.set_xlabel("round")
        axes.set_ylabel("mean loss a patient")
        axes.legend(loc="upper right")
        axes.margins(x=0.02)
        return svg_text(figure)


def _mark_stages(axes: Axes, frame: pd.DataFrame) -> None:
    """Draw a line where a stage begins, with its name on top."""
    if "stage" not in frame:
        return
    firsts = frame.groupby("stage")["round"].min().sort_values()
    for stage, first in firsts.items():
        if len(firsts) > 1 and first > frame["round"].min():
            axes.axvline(float(first) - 0.5, color=MUTED, lw=0.8, ls=(0, (2, 2)))
        axes.annotate(
            str(stage),
            (float(first) - 0.4, 1.0),
            xycoords=("data", "axes fraction"),
            fontsize=8.5,
            color=MUTED,
            va="bottom",
        )


def kaplan_meier_plot(predictions: pd.DataFrame, arm: str, last_days: float) -> str | None:
    """Observed survival by third of predicted risk within folds, with intervals and numbers at risk."""
    rows = predictions[predictions["arm"] == arm]
    rows = rows[known_survival(rows)]
    if len(rows) < len(THIRDS):
        return None
    third = risk_thirds(rows["risk_score"].to_numpy(np.float64), rows["fold"].to_numpy())
    time = rows["time_days"].to_numpy(np.float64) / DAYS_A_MONTH
    event = rows["event"].to_numpy(np.float64) == 1.0
    last = min(last_days / DAYS_A_MONTH, float(time.max()))
    ticks = _month_ticks(last)
    with empty_figure(7.4, 4.3) as figure:
        axes, below = figure.subplots(2, 1, height_ratios=[5, 1.25], sharex=True)
        for k, name in enumerate(THIRDS):
            chosen = third == k
            fitter = KaplanMeierFitter().fit(time[chosen], event[chosen])
            curve = fitter.survival_function_.iloc[:, 0]
            band = fitter.confidence_interval_
            axes.fill_between(
                band.index,
                band.iloc[:, 0],
                band.iloc[:, 1],
                step="post",
                color=THIRD_COLOURS[k],
                alpha=0.13,
                lw=0,
            )
            axes.step(
                curve.index,
                curve,
                where="post",
                color=THIRD_COLOURS[k],
                ls=THIRD_STYLES[k],
                lw=2,
                label=f"{name} risk",
            )
            for tick in ticks:
                at_risk = int((time[chosen] >= tick).sum())
                below.text(tick, 2 - k, str(at_risk), ha="center", va="center", fontsize=9)
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, last)
        axes.set_ylabel("alive")
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.legend(loc="lower left", title="predicted")
        below.set_yticks([2, 1, 0], list(THIRDS))
        for tick_label, colour in zip(below.get_yticklabels(), THIRD_COLOURS, strict=True):
            tick_label.set_color(colour)
            tick_label.set_fontweight("bold")
        below.set_ylim(-0.6, 2.6)
        below.set_title("still followed", fontsize=9, loc="left", color=MUTED)
        below.grid(visible=False)
        for spine in below.spines.values():
            spine.set_visible(False)
        below.tick_params(axis="both", length=0)
        below.tick_params(axis="y", pad=16)
        below.set_xticks(ticks)
        below.set_xlabel("months")
        return svg_text(figure)


def _month_ticks(last: float) -> list[float]:
    """Between four and eight ticks at whole half years or years."""
    for step in (3, 6, 12, 24, 36, 60, 120):
        if last / step <= 8:
            return [float(t) for t in np.arange(0, last + 1e-9, step)]
    return [0.0, last]


def calibration_plot(table: Sequence[Mapping[str, Any]]) -> str | None:
    """Observed against predicted probability of death in each third of risk, one panel a horizon."""
    horizons = sorted({float(row["horizon_days"]) for row in table if row["observed"] is not None})
    if not horizons:
        return None
    with empty_figure(min(2.6 * len(horizons) + 0.4, 8.0), 3.0) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(horizons), sharex=True, sharey=True))
        highest = 0.1
        for axes, horizon in zip(panels, horizons, strict=True):
            for row in table:
                if row["horizon_days"] != horizon or row["third"] == "all" or row["observed"] is None:
                    continue
                k = THIRDS.index(row["third"])
                error = None
                if row["low"] is not None:
                    below, above = row["observed"] - row["low"], row["high"] - row["observed"]
                    error = [[max(below, 0.0)], [max(above, 0.0)]]
                    highest = max(highest, row["high"])
                highest = max(highest, row["observed"], row["expected"])
                axes.errorbar(
                    row["expected"],
                    row["observed"],
                    yerr=error,
                    fmt="osD"[k],
                    color=THIRD_COLOURS[k],
                    ms=6,
                    capsize=2.5,
                    clip_on=False,
                    zorder=3,
                    label=row["third"],
                )
            axes.set_title(f"{horizon / DAYS_A_MONTH:.0f} months", fontsize=10)
        limit = min(1.0, math.ceil(highest * 10) / 10)
        for axes in panels:
            axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (4, 3)), zorder=0)
            axes.set_xlim(0, limit)
            axes.set_ylim(0, limit)
            axes.set_aspect("equal")
            axes.set_xticks(np.linspace(0, limit, 3))
            axes.set_yticks(np.linspace(0, limit, 5))
            axes.xaxis.set_major_formatter("{x:.0%}")
            axes.yaxis.set_major_formatter("{x:.0%}")
        panels[0].set_ylabel("observed deaths")
        panels[0].legend(loc="upper left", title="risk", fontsize=8.5, title_fontsize=8.5)
        figure.supxlabel("predicted deaths", fontsize=10)
        return svg_text(figure)
