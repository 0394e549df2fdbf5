"""The plot of what the federation is worth at each site: alone, federated, with the site's own head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmfed_simulations.evaluation.arm_names import PERSONALISED, label
from mmfed_simulations.evaluation.hospital.scores import MAIN
from mmfed_simulations.report.style import ACCENT, INK, MUTED, empty_figure, svg_text

LOOKS: dict[str, tuple[str, str, float]] = {
    "local": (MUTED, "s", 0.24),
    "federated": (ACCENT, "o", 0.0),
    PERSONALISED: ("#c2410c", "D", -0.24),
}
"""Arm → colour, marker, and how far above the site's line."""
MOST_SITES = 30


def shown_sites(worth: Mapping[str, Any], task: str) -> list[Mapping[str, Any]]:
    """The largest sites that have a figure, largest first."""
    metric = MAIN[task]
    found = [
        site
        for site in worth["sites"]
        if any(f[metric]["estimate"] is not None for f in _figures(site, task).values())
    ]
    found.sort(key=lambda site: (-site["tasks"][task]["patients"], site["site"]))
    return found[:MOST_SITES]


def site_worth_plot(worth: Mapping[str, Any], task: str, axis_label: str) -> str | None:
    """Each site's figures with 95 % intervals, largest site on top; None if no site has one.

    Sites that are judged are written in bold.
    """
    sites = shown_sites(worth, task)
    if not sites:
        return None
    metric = MAIN[task]
    named: set[str] = set()
    with empty_figure(7.4, 1.1 + 0.42 * len(sites)) as figure:
        axes = figure.subplots()
        for place, site in enumerate(reversed(sites)):
            for arm, (colour, marker, above) in LOOKS.items():
                found = _figures(site, task).get(arm, {}).get(metric)
                if found is None or found["estimate"] is None:
                    continue
                if found["low"] is not None:
                    axes.plot([found["low"], found["high"]], [place + above] * 2, color=colour, lw=1.5)
                name = None if arm in named else label(arm)
                named.add(arm)
                axes.plot(found["estimate"], place + above, marker, color=colour, ms=5, ls="", label=name)
        ticks = [f"{site['site']} ({site['tasks'][task]['patients']})" for site in reversed(sites)]
        axes.set_yticks(range(len(sites)), ticks)
        for tick, site in zip(axes.get_yticklabels(), reversed(sites), strict=True):
            tick.set_fontweight("bold" if site["tasks"][task]["judged"] else "normal")
        axes.axvline(0.5, color=INK, lw=0.9, ls=(0, (4, 3)))
        axes.set_ylim(-0.6, len(sites) - 0.4)
        axes.set_xlim(0, 1)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(axis_label)
        figure.legend(loc="outside upper center", ncols=len(LOOKS))
        return svg_text(figure)


def _figures(site: Mapping[str, Any], task: str) -> Mapping[str, Any]:
    figures: Mapping[str, Any] = site["tasks"].get(task, {}).get("figures", {})
    return figures
