"""Codes of 3xx: privacy."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
    "MMF-301": Code(
        "The study asks for differential privacy, which this version does not train with.",
        'Set `[privacy] mode = "none"`, or use a version that has it; nothing was trained.',
    ),
}
