"""What one error code holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """The fixed texts of one error code."""

    meaning: str
    next_step: str
