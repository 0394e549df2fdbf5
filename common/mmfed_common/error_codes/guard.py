"""Codes of 45x and 46x: the checks of an update at the server."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {}
