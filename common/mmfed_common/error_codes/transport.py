"""Codes of 47x and 48x: the way between site and server."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {}
