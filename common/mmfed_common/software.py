"""Which software runs here, in one line, and how it differs from another side's."""

from __future__ import annotations

import platform
import re
from importlib.metadata import version

COMPARED = ("mmfed", "flwr", "torch")
"""Packages whose versions are told to the other side."""

LINE = r"^[A-Za-z0-9 .+_;-]{1,200}$"
"""What a line about software may look like."""


def software() -> str:
    """Name this side's software, e.g. ``mmfed 0.1.0; flwr 1.41.0; torch 2.9.0; python 3.12``."""
    packages = [f"{name} {version(name)}" for name in COMPARED]
    return "; ".join([*packages, f"python {'.'.join(platform.python_version_tuple()[:2])}"])


def software_differences(theirs: str, ours: str | None = None) -> list[str]:
    """Explain how another side's software differs from ours; empty when it does not.

    Parameters
    ----------
    theirs, ours
        Lines as :func:`software` writes them; ``ours`` defaults to this installation.
    """
    if re.fullmatch(LINE[1:-1], theirs) is None:
        return ["the other side does not say which software it runs"]
    here, there = _parsed(software() if ours is None else ours), _parsed(theirs)
    return [
        f"{name} is {there.get(name, 'unknown')} there and {here.get(name, 'unknown')} here"
        for name in (*COMPARED, "python")
        if _release(there.get(name, "")) != _release(here.get(name, ""))
    ]


def _parsed(line: str) -> dict[str, str]:
    pairs = (part.strip().partition(" ") for part in line.split(";"))
    return {name: number for name, _, number in pairs}


def _release(number: str) -> str:
    """A version without its local part: ``2.9.0+cpu`` and ``2.9.0+cu128`` are the same release."""
    return number.partition("+")[0]
