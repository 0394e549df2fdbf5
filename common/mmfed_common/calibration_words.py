"""A released model's calibration in words, for its model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DAYS_A_YEAR = 365.25


def calibration_lines(found: Mapping[str, Any] | None) -> list[str]:
    """Lines of Markdown: observed and expected deaths, D-calibration, lower bound, temperatures.

    Parameters
    ----------
    found
        See :class:`.model_card.ModelFacts`.
    """
    if not found:
        return ["Calibration is not known: no predicted probability may be read as such."]
    return [*_deaths(found), *_tests(found), *_bound(found), *_temperatures(found)]


def years_of(days: float) -> str:
    """``1 year``, ``3 years``, ``1.5 years``."""
    years = f"{days / DAYS_A_YEAR:.3g}"
    return f"{years} year" if years == "1" else f"{years} years"


def _deaths(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for row in found.get("horizons") or []:
        years = years_of(float(row["horizon_days"]))
        if row["observed"] is None:
            lines.append(f"- Deaths by {years}: {row['expected']:.1%} expected; nobody was followed so long.")
            continue
        spread = "" if row["low"] is None else f" [{row['low']:.1%}, {row['high']:.1%}]"
        lines.append(
            f"- Deaths by {years}: {row['expected']:.1%} expected, {row['observed']:.1%}{spread} observed."
        )
    slope = found.get("slope")
    if slope and slope["estimate"] is not None:
        lines.append(
            f"- Calibration slope {slope['estimate']:.2f} [{slope['low']:.2f}, {slope['high']:.2f}]; below 1 "
            "the model is too sure of what tells patients apart."
        )
    return lines


def _tests(found: Mapping[str, Any]) -> list[str]:
    test = found.get("d_calibration")
    if not test:
        return []
    return [f"- D-calibration was rejected in {test['rejected']} of {test['folds']} folds."]


def _bound(found: Mapping[str, Any]) -> list[str]:
    bound = found.get("lower_bound")
    if not bound:
        return []
    reached = found.get("coverage") or {}
    coverage = ""
    if reached.get("estimate") is not None:
        coverage = f" In the folds {reached['estimate']:.1%} of held-out patients lived at least so long"
        spread = reached.get("low") is not None
        coverage += f" [{reached['low']:.1%}, {reached['high']:.1%}]." if spread else "."
    return [
        f"- Lower bound on survival time, {bound['level']:.0%}: the day on which a patient's predicted "
        f"probability of death reaches {bound['death_probability']:.3f}, at most day "
        f"{bound['longest_days']:.0f}; from {bound['n']} patients with {bound['events']} deaths."
        f"{coverage} It holds on average over patients like them, not for every kind of patient."
    ]


def _temperatures(found: Mapping[str, Any]) -> list[str]:
    scales = found.get("temperatures")
    if not scales:
        return ["- Temperatures: none are applied."]
    own = [f"{name} {one['temperature']:.2f}" for name, one in scales["scenarios"].items()]
    return [
        "- Temperatures of predicted curves: "
        + ", ".join([*own, f"otherwise {scales['common']['temperature']:.2f}"])
        + "."
    ]
