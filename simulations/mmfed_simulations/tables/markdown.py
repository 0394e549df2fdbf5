"""Figures as Markdown, ``.731 [.706, .752]``, and the pages that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from jinja2 import Environment, StrictUndefined

from mmfed_common.metrics import Estimate


def figure(estimate: Estimate | None, sign: str = "") -> str:
    """A figure with its 95 % interval; a dash where it is not defined."""
    if estimate is None or estimate.estimate is None:
        return "–"
    text = number(estimate.estimate, sign)
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{number(estimate.low, sign)}, {number(estimate.high, sign)}]"


def number(value: float, sign: str = "") -> str:
    """Three decimals without the zero in front."""
    text = f"{value:{sign}.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text


def grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def bold(text: str) -> str:
    """Set in bold."""
    return f"**{text}**"


def write_page(name: str, **content: object) -> str:
    """The page of a table: its text around what was found."""
    source = resources.files("mmfed_simulations.tables").joinpath(f"{name}.md.j2")
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(source.read_text(encoding="utf-8")).render(**content)
